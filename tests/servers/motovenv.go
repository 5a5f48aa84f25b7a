package servers

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	key := append([]byte(python+"\n"), motoRequirements...)
	folder, err := cacheFolder(ctx, "moto", key, motoComplete, func(folder string) error {
		return installMoto(ctx, python, folder)
	})
	if err != nil {
		return "", err
	}
	return venvPython(folder), nil
}

// motoComplete is a file that tells that the environment is complete: it can't
// be moved into place once it is made.
const motoComplete = "complete"

func venvPython(folder string) string { return filepath.Join(folder, "venv", "bin", "python3") }

func installMoto(ctx context.Context, python, folder string) error {
	requirements := filepath.Join(folder, "requirements.txt")
	if err := os.WriteFile(requirements, motoRequirements, 0o644); err != nil {
		return fmt.Errorf("write requirements: %w", err)
	}
	for _, arguments := range [][]string{
		{python, "-m", "venv", "--clear", filepath.Join(folder, "venv")},
		{venvPython(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r", requirements},
	} {
		command := exec.CommandContext(ctx, arguments[0], arguments[1:]...)
		if said, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("install moto: %v: %w\n%s", arguments, err, said)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, motoComplete), nil, 0o644); err != nil {
		return fmt.Errorf("keep moto: %w", err)
	}
	return nil
}
