package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/failpoint"
)

// Table is the table as the sink uses it. Its methods may be called at once
// from several goroutines, after Prepare has returned nil.
//
// It keeps a pool for each address, uses one at a time, and turns to the next
// when a server can't be reached: what is asked after an insert must be asked
// where the insert went, or after the replica has caught up.
type Table struct {
	cfg     config.ClickHouse
	layout  *layout
	ref     tableRef
	insert  string
	servers []driver.Conn
	current atomic.Uint32
	fillers sync.Pool

	// What Prepare found out; it may be called again while others insert.
	prepared atomic.Pointer[preparation]
}

type preparation struct {
	insertSettings, proofSettings clickhouse.Settings
	replicated                    bool
	views                         bool
}

// OpenTable opens the pools; it does not dial.
func OpenTable(cfg config.ClickHouse, log *slog.Logger) (*Table, error) {
	return openLayout(cfg, &events, log)
}

func openLayout(cfg config.ClickHouse, l *layout, log *slog.Logger) (*Table, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("clickhouse.addresses: none given")
	}
	database, name := TableName(cfg)
	names := make([]string, len(l.columns))
	for i, column := range l.columns {
		names[i] = Quote(column.Name)
	}
	t := &Table{
		cfg:     cfg,
		layout:  l,
		ref:     tableRef{database, name},
		fillers: sync.Pool{New: func() any { return newFiller() }},
	}
	t.insert = "INSERT INTO " + t.ref.String() + " (" + strings.Join(names, ", ") + ")"
	for _, address := range cfg.Addresses {
		one := cfg
		one.Addresses = []string{address}
		server, err := Connect(one, log)
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
		t.servers = append(t.servers, server)
	}
	return t, nil
}

// Name is database and table, as the intent names its target.
func (t *Table) Name() string { return t.ref.database + "." + t.ref.name }

// HasViews reports whether materialized views hang on the table.
func (t *Table) HasViews() bool { return t.prepared.Load().views }

// Close ends all connections.
func (t *Table) Close() error {
	var problems []error
	for _, server := range t.servers {
		problems = append(problems, server.Close())
	}
	return errors.Join(problems...)
}

// server is the one in use; failed turns to the next.
func (t *Table) server() driver.Conn {
	return t.servers[int(t.current.Load())%len(t.servers)]
}

func (t *Table) failed(server driver.Conn, err error) {
	var exception *clickhouse.Exception
	if len(t.servers) == 1 || errors.As(err, &exception) || errors.Is(err, context.Canceled) {
		return
	}
	if current := t.current.Load(); t.servers[int(current)%len(t.servers)] == server {
		t.current.CompareAndSwap(current, current+1)
	}
}

// Prepare creates the table when the configuration asks for it, checks that it
// can be written exactly once, and learns what the server knows. An
// *UnfitError or an ErrConflict needs a person; other errors may pass.
func (t *Table) Prepare(ctx context.Context) (err error) {
	server := t.server()
	defer func() { t.failed(server, err) }()
	known, err := knownSettings(ctx, server)
	if err != nil {
		return err
	}
	if t.cfg.CreateTable {
		// Of a setting that is refused check tells more.
		if err := t.create(asking(ctx, known), server); err != nil && !settingRefused(err) {
			return err
		}
	}
	if err := check(ctx, server, t.cfg, t.layout); err != nil {
		return err
	}
	state, _, err := inspect(asking(ctx, known), server, t.ref)
	if err != nil {
		return err
	}
	t.prepared.Store(&preparation{
		insertSettings: settingsOf(insertRequirements, known),
		proofSettings:  settingsOf(proofRequirements, known),
		replicated:     state.replicated(),
		views:          len(state.dependents) > 0,
	})
	return nil
}

// create makes the table when it isn't there. One that is there is left as it
// is: changing it is `schema apply`'s business.
func (t *Table) create(ctx context.Context, server driver.Conn) error {
	_, found, err := inspect(ctx, server, t.ref)
	if err != nil || found {
		return err
	}
	for _, statement := range []string{DatabaseDDL(t.cfg), tableDDL(t.cfg, t.layout)} {
		if err := server.Exec(ctx, statement); err != nil {
			return fmt.Errorf("create table %s: %w", t.ref, err)
		}
	}
	return nil
}

// Rows is a batch, row by row. Next fills the row and returns true, or returns
// false at the end. What a row's strings point to must stay unchanged until
// the insert returns.
type Rows interface {
	Next(row *event.Row) (bool, error)
}

// Inserted is an insert that the server acknowledged.
type Inserted struct {
	Rows int
	// Proven is true when the server said that no block was dropped as a
	// duplicate. When it said that one was, or nothing, only looking tells
	// whether the rows are there.
	Proven bool
	// Duplicates are the blocks it dropped, in the table and its views.
	Duplicates int64
}

// Insert sends all rows as one block in one INSERT under the token. ctx bounds
// it. Errors are *InsertError.
func (t *Table) Insert(ctx context.Context, token string, rows Rows) (Inserted, error) {
	return t.insertBlock(ctx, token, func(batch driver.Batch) (int, error) {
		fill := t.fillers.Get().(*filler)
		if err := fillBlock(fill, batch, rows); err != nil {
			return 0, err // what is left in its buffers must not reach another batch
		}
		count := fill.total
		t.fillers.Put(fill)
		return count, nil
	})
}

func (t *Table) insertBlock(ctx context.Context, token string, fill func(driver.Batch) (int, error)) (Inserted, error) {
	server := t.server()
	inserted, sent, err := t.insertOn(ctx, server, token, fill)
	if err != nil {
		t.failed(server, err)
		return inserted, &InsertError{Sent: sent, Err: err}
	}
	return inserted, nil
}

func (t *Table) insertOn(ctx context.Context, server driver.Conn, token string, fill func(driver.Batch) (int, error)) (inserted Inserted, sent bool, err error) {
	prepared := t.prepared.Load()
	settings := make(clickhouse.Settings, len(prepared.insertSettings)+1)
	for name, value := range prepared.insertSettings {
		settings[name] = value
	}
	settings["insert_deduplication_token"] = token

	// The events arrive while Send reads the reply, on another goroutine that may
	// outlive a cancelled Send.
	var reported atomic.Bool
	var duplicates atomic.Int64
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(settings), clickhouse.WithQueryID(queryID(token)),
		clickhouse.WithProfileEvents(func(events []clickhouse.ProfileEvent) {
			for i := range events {
				reported.Store(true)
				if events[i].Name == "DuplicatedInsertedBlocks" {
					duplicates.Add(events[i].Value)
				}
			}
		}))
	batch, err := server.PrepareBatch(ctx, t.insert)
	if err != nil {
		return inserted, false, fmt.Errorf("begin insert: %w", err)
	}
	defer func() {
		if !batch.IsSent() {
			err = errors.Join(err, batch.Abort())
		}
	}()
	if inserted.Rows, err = fill(batch); err != nil {
		return inserted, false, fmt.Errorf("fill block: %w", err)
	}
	failpoint.Here("clickhouse insert")
	if err := batch.Send(); err != nil {
		return inserted, true, err
	}
	inserted.Duplicates = duplicates.Load()
	inserted.Proven = reported.Load() && inserted.Duplicates == 0
	return inserted, true, nil
}

func fillBlock(fill *filler, batch driver.Batch, rows Rows) error {
	if err := fill.begin(batch.Columns()); err != nil {
		return err
	}
	var row event.Row
	// The strings of rows stay where they are, but slices of the row are reused:
	// the filler copies those at once and keeps only strings.
	for {
		more, err := rows.Next(&row)
		if err != nil {
			return err
		}
		if !more {
			return fill.end()
		}
		if err := fill.add(&row); err != nil {
			return err
		}
	}
}
