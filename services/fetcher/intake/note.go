package intake

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditstream/auditstream/topics"
)

const (
	// notesPerHorizon is how often within the horizon all that is known is noted,
	// so that the log always has a whole note that is read back.
	notesPerHorizon = 4
	idsPerNote      = 4096
)

// note writes what is known of a source to the log when it is time to.
//
// Whatever is in a note was announced: dying in the middle of one leaves a note
// that says less, and the next is written after the next pass.
func (l *Listing) note(ctx context.Context, source string, known *announced) error {
	if time.Since(known.noted) < l.opts.Horizon/notesPerHorizon {
		return nil
	}
	began := time.Now()
	ids := known.all()
	var waiting UnderWay
	for chunk := range slices.Chunk(ids, idsPerNote) {
		l.writeNote(ctx, topics.Noted{Source: source, IDs: chunk, Knows: known.knows}, &waiting)
	}
	if err := waiting.Wait(); err != nil {
		return err
	}
	// Only a whole note has its last record.
	l.writeNote(ctx, topics.Noted{Source: source, Last: true, Knows: known.knows}, &waiting)
	if err := waiting.Wait(); err != nil {
		return err
	}
	known.noted = began
	l.opts.Logger.Debug("announcements noted", "source", source, "objects", len(ids))
	return nil
}

func (l *Listing) writeNote(ctx context.Context, note topics.Noted, waiting *UnderWay) {
	waiting.Begin()
	l.opts.Announcer.Note(ctx, note, waiting.End)
}

// Note writes a note and calls done once it is durable, or can't become so.
func (a *Announcer) Note(ctx context.Context, note topics.Noted, done func(error)) {
	record, err := note.Record(a.topic)
	if err != nil {
		done(err)
		return
	}
	a.client.Produce(ctx, record, func(_ *kgo.Record, err error) {
		if err != nil {
			err = fmt.Errorf("note what source %s has announced: %w", note.Source, err)
		}
		done(err)
	})
}
