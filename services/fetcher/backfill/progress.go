package backfill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Job says what is announced.
type Job struct {
	Source string    `json:"source"`
	Store  string    `json:"store"` // alias
	Bucket string    `json:"bucket"`
	Prefix string    `json:"prefix"`
	Since  time.Time `json:"since,omitzero"` // by when S3 received the object
	Until  time.Time `json:"until,omitzero"` // and before then; zero: no end
	// Asked is how the times were asked for. What was asked in the same way is the
	// same job, with the times that it was begun with: ages grow.
	Asked string `json:"asked"`
}

// Progress is how far a job has come.
type Progress struct {
	Version int     `json:"version"`
	Job     Job     `json:"job"`
	Ranges  []Range `json:"ranges"`
}

const progressVersion = 1

// ErrOtherJob: the progress in the file is another job's.
var ErrOtherJob = errors.New("the progress file is that of another backfill")

// load reads the progress of the job; nil when there is none.
func load(path string, job Job) (*Progress, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the progress: %w", err)
	}
	var p Progress
	if err := json.Unmarshal(content, &p); err != nil {
		return nil, fmt.Errorf("read the progress in %s: %w", path, err)
	}
	job.Since, job.Until = p.Job.Since, p.Job.Until
	if p.Version != progressVersion || p.Job != job {
		return nil, fmt.Errorf("%w: %s (remove it, or name another one)", ErrOtherJob, path)
	}
	return &p, nil
}

// save replaces the file as a whole: after a crash it is the old or the new one.
func (p *Progress) save(path string) error {
	content, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return fmt.Errorf("write the progress: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write the progress: %w", err)
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name()) // what is left of a file that is not used
		return fmt.Errorf("write the progress to %s: %w", path, err)
	}
	return nil
}
