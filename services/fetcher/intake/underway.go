package intake

import "sync"

// UnderWay waits for announcements or notes to be durable, and keeps their first
// error.
type UnderWay struct {
	group sync.WaitGroup
	mu    sync.Mutex
	first error
}

// Begin counts one more, for which End is called once.
func (u *UnderWay) Begin() { u.group.Add(1) }

// End tells what became of one.
func (u *UnderWay) End(err error) {
	u.mu.Lock()
	if u.first == nil {
		u.first = err
	}
	u.mu.Unlock()
	u.group.Done()
}

// Wait waits for all that have begun.
func (u *UnderWay) Wait() error {
	u.group.Wait()
	return u.first
}
