package servers

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

//go:embed moto/requirements.txt
var motoRequirements []byte

// errNoPython is why the AWS emulator can't be had here.
var errNoPython = errors.New("the AWS emulator moto needs python3 (3.10 or newer, with venv) on PATH")

// motoPython returns the Python that has moto. It is a virtual environment in
// the user's cache folder, made once per version of the requirements.
func motoPython(ctx context.Context) (string, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoPython, err)
	}
	if err := exec.CommandContext(ctx, python, "-c", "import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 10))").Run(); err != nil {
		return "", fmt.Errorf("%w: %w", errNoPython, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	hash := sha256.Sum256(append([]byte(python+"\n"), motoRequirements...))
	folder := filepath.Join(cache, "auditstream", "moto", hex.EncodeToString(hash[:8]))
	venv := filepath.Join(folder, "venv")
	// An environment can't be moved once it is made, so a file tells that it is
	// complete.
	complete := filepath.Join(folder, "complete")
	found := filepath.Join(venv, "bin", "python3")
	if _, err := os.Stat(complete); err == nil {
		return found, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("create cache folder: %w", err)
	}
	lock := flock.New(filepath.Join(folder, "lock"))
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return "", fmt.Errorf("wait for the lock of %s: %w", folder, err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(complete); err == nil { // made by whom we waited for
		return found, nil
	}

	requirements := filepath.Join(folder, "requirements.txt")
	if err := os.WriteFile(requirements, motoRequirements, 0o644); err != nil {
		return "", fmt.Errorf("write requirements: %w", err)
	}
	for _, arguments := range [][]string{
		{python, "-m", "venv", "--clear", venv},
		{found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r", requirements},
	} {
		command := exec.CommandContext(ctx, arguments[0], arguments[1:]...)
		if said, err := command.CombinedOutput(); err != nil {
			return "", fmt.Errorf("install moto: %v: %w\n%s", arguments, err, said)
		}
	}
	if err := os.WriteFile(complete, nil, 0o644); err != nil {
		return "", fmt.Errorf("keep moto: %w", err)
	}
	return found, nil
}
