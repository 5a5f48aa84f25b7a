package split

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/auditstream/auditstream/pkg/objectstore"
	"github.com/auditstream/auditstream/topics"
)

// read reads the planned pieces, several at once, and produces their lines.
// It ends with the time that the transaction has for it, whatever the store
// does.
func (s *Splitter) read(ctx, stopping context.Context, tx transaction, work plan) {
	limits := newWaits(ctx, stopping)
	defer limits.cancel()
	queue := make(chan *piece)
	var workers sync.WaitGroup
	for range min(s.opts.Fetcher.Concurrency, len(work.large)+len(work.small)) {
		workers.Go(func() {
			for p := range queue {
				s.readPiece(limits, tx, p)
			}
		})
	}
	// The large ones are under way before the many small ones use the workers.
	for _, p := range work.large {
		queue <- p
	}
	for _, p := range work.small {
		queue <- p
	}
	close(queue)
	workers.Wait()
}

// readPiece reads one piece up to its budget, if there is time and budget to
// begin it.
func (s *Splitter) readPiece(limits waits, tx transaction, p *piece) {
	if limits.soft.Err() != nil || p.budget.left.Load() <= 0 || tx.Err() != nil {
		return
	}
	p.begun = true
	if p.held == nil {
		if p.object.FromByte > 0 {
			s.counted.openedAgain()
		}
		p.held, p.err = openStream(limits.hard, s.life, &p.object, opening{
			store:     s.opts.Store,
			lineLimit: int(s.opts.LineLimit),
			bounds:    bounds{int64(s.opts.Fetcher.MaxObjectSize), int64(s.opts.Fetcher.MaxExpansion)},
			memory:    s.memory,
			ahead:     p.placed,
		})
		if p.err != nil {
			p.answered = isAnswer(p.err)
			return
		}
		p.held.partition = p.record.Partition
		p.answered = true
	}
	p.receivedAt = p.held.receivedAt
	p.object.Splitting, p.object.Run.ReceivedAt = p.held.splitting, p.receivedAt
	interrupted := p.held.interruptAfter(limits.hard)
	if p.held.ahead != nil {
		defer p.held.ahead.hurryAfter(limits.soft)()
	}
	p.ended, p.err = s.readLines(limits.soft, tx, p)
	s.counted.took(p.held.storedSince())
	p.answered = p.answered || isAnswer(p.err)
	if !interrupted() && p.err == nil && !p.ended {
		p.err = errSlow // the stream has ended with the time
	}
}

// readLines produces lines until the object, the budget or the time ends.
func (s *Splitter) readLines(soft context.Context, tx transaction, p *piece) (ended bool, err error) {
	out := newRecords(s.opts.Topics.Raw, &p.object, p.receivedAt)
	var lines, blank, size int64
	defer func() { s.counted.read(lines, blank, size) }()
	// The way to the position gives no lines. Only time bounds it: were it bounded
	// by bytes, aborts could keep it from ever arriving.
	for p.held.discard > 0 && soft.Err() == nil {
		if err := p.held.advance(); err != nil {
			return false, err
		}
	}
	for {
		left := p.budget.left.Load()
		if left <= 0 || soft.Err() != nil || tx.Err() != nil {
			return false, nil
		}
		if !p.progress {
			// One line at least, however many share: else a line larger than the
			// share would never pass.
			left = max(left, s.opts.LineLimit+readBuffer)
		}
		l, err := p.held.next(left)
		switch {
		case err == io.EOF: //nolint:errorlint // bare, by contract
			return true, nil
		case err == errPaused: //nolint:errorlint // bare, by contract
			// It stands within a line, or on its way to one. The budget is spent on
			// what it passed over.
			p.budget.left.Add(-left)
			return false, nil
		case err != nil:
			return false, err
		case l.tooLong:
			s.lineTooLong(tx, p, l)
			s.tellTooLong(tx, p)
		case isBlank(l.text):
			blank++
			s.tellBlank(tx, p)
		default:
			tx.Produce(out.record(l.text, p.object.FromLine))
			lines++
		}
		p.object.FromLine++
		p.object.FromByte += l.size
		p.object.Inside = l.inside
		p.object.Attempt = 0
		p.progress = true
		size += l.size
		p.budget.left.Add(-l.size)
	}
}

// lineTooLong sets aside the beginning of a line that can't be carried.
func (s *Splitter) lineTooLong(tx transaction, p *piece, l line) {
	s.counted.deadLetter(topics.ReasonLineTooLong)
	letter := topics.DeadLetterRecord{
		Stage:      Stage,
		Reason:     topics.ReasonLineTooLong,
		Error:      fmt.Sprintf("the line has %d bytes, the limit is %d; these are its first %d", l.length, s.opts.LineLimit, len(l.text)),
		Topic:      p.record.Topic,
		Partition:  p.record.Partition,
		Offset:     p.record.Offset,
		Source:     p.object.Source,
		Object:     p.object.ID,
		Line:       p.object.FromLine,
		ReceivedAt: p.receivedAt,
		Bytes:      l.text,
		Size:       l.length,
	}
	tx.Produce(letter.Record(s.opts.Topics.DeadLetter))
}

// isAnswer tells whether the store, by this error, says something about the
// object.
func isAnswer(err error) bool {
	return err != nil && !errors.Is(err, objectstore.ErrUnavailable) && !errors.Is(err, errSlow) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// storeAway tells whether the store answers nobody. When all that was tried
// failed without an answer, it is asked about the bucket: a store that answers
// that is there, and the failures are the objects' own. What comes of streams
// that are open is no answer: it may be under way since before the store went.
//
// A store that is away is an error when nothing came of the transaction. Where
// open streams still give lines, these count, and for the rest it was no try.
func (s *Splitter) storeAway(ctx context.Context, work plan) error {
	var silent []*piece
	progress := false
	for _, p := range work.pieces {
		switch {
		case p.answered:
			s.opts.Health.Report(s3Component, nil)
			return nil
		case p.err != nil && !errors.Is(p.err, errUnknownSource):
			silent = append(silent, p)
		}
		progress = progress || p.progress || p.ended
	}
	if len(silent) == 0 {
		return nil
	}
	err := s.opts.Store.Probe(ctx, silent[0].object.Bucket, "")
	if err == nil || !errors.Is(err, objectstore.ErrUnavailable) && ctx.Err() == nil {
		s.opts.Health.Report(s3Component, nil)
		return nil
	}
	err = errors.Join(silent[0].err, err)
	s.opts.Health.Report(s3Component, err)
	if !progress {
		return err
	}
	for _, p := range silent {
		p.storeAway = true
	}
	return nil
}
