package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	driverclickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/clickhouse"
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/pkg/kafka"
	"github.com/auditstream/auditstream/pkg/telemetry"
	"github.com/auditstream/auditstream/services/sink"
	"github.com/auditstream/auditstream/topics"
)

// sinkBatch is the batch size of the sink and of its ceiling.
const sinkBatch = 10_000

// benchSink compares with inserts into the same table of columns that lie ready:
// as many rows in as many blocks, as many inserts at once, the same settings. It
// reads nothing from Kafka and decodes nothing.
func benchSink(ctx context.Context, o options) (_ []figure, err error) {
	sample, err := lines(o.seed, generate.Mixed, o.events, 0)
	if err != nil {
		return nil, err
	}
	server, err := embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{Directory: filepath.Join(o.scratch, "clickhouse"), Log: o.log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	base := config.Default().ClickHouse
	base.Addresses = []string{server.Address()}
	conn, err := clickhouse.Connect(base, o.log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	// The first round of the sink fills the table that the ceiling's columns are
	// read back from.
	if _, err := sinkRate(ctx, o, base, conn, sample, "source"); err != nil {
		return nil, err
	}
	blocks, err := prebuild(ctx, conn, base, len(sample))
	if err != nil {
		return nil, fmt.Errorf("ceiling: %w", err)
	}
	if err := drop(ctx, conn, base); err != nil {
		return nil, err
	}
	ceiling, value, err := inTurns(o.rounds,
		func(round int) (float64, error) {
			cfg := base
			cfg.Table = fmt.Sprint(base.Table, "_prebuilt", round)
			perSecond, err := prebuiltRate(ctx, cfg, conn, blocks)
			return perSecond, errors.Join(err, drop(ctx, conn, cfg))
		},
		func(round int) (float64, error) {
			cfg := base
			cfg.Table = fmt.Sprint(base.Table, "_sink", round)
			perSecond, err := sinkRate(ctx, o, cfg, conn, sample, fmt.Sprint("sink", round))
			return perSecond, errors.Join(err, drop(ctx, conn, cfg))
		})
	if err != nil {
		return nil, err
	}
	return []figure{{
		name: "sink", value: value, ceiling: ceiling, unit: "rows/s", ratio: value / ceiling, target: 0.5,
		against: "insert of the same columns, built beforehand (clickhouse-go)",
	}}, nil
}

func sinkRate(ctx context.Context, o options, table config.ClickHouse, conn driver.Conn, sample [][]byte, name string) (perSecond float64, err error) {
	b, err := startBroker(ctx, o, name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	normalizer := audit.NewNormalizer(nil)
	err = b.fill(ctx, len(sample), func(i int) (*kgo.Record, error) {
		record := &kgo.Record{Topic: b.names.Normalized}
		result := normalizer.Normalize(benchSource, audit.Line{Bytes: sample[i], ObjectID: benchObject, Number: int64(i + 1), ReceivedAt: 1_770_000_000_000},
			func(row *event.Row) { record.Value = topics.AppendNormalized(nil, row) })
		if result.Rows != 1 {
			return nil, fmt.Errorf("line %d is %d rows", i+1, result.Rows)
		}
		return record, nil
	})
	if err != nil {
		return 0, err
	}
	table.CreateTable = true
	return rate(ctx, len(sample), counter(conn, table), func(ctx context.Context) error {
		settings := b.cfg.Sink
		settings.BatchRows, settings.BatchAge = sinkBatch, 200*time.Millisecond
		client, err := kafka.Options(b.cfg.Kafka, o.log, nil)
		if err != nil {
			return err
		}
		stage, err := sink.New(sink.Options{
			Config: settings, ClickHouse: table, Topic: b.names.Normalized, Rows: sink.Events, Group: "bench", Client: client,
			Log: o.log, Registerer: prometheus.NewRegistry(), Health: telemetry.NewHealth(o.log),
		})
		if err != nil {
			return err
		}
		return stage.Run(ctx)
	})
}

// counter counts the table's rows; one that isn't there yet has none.
func counter(conn driver.Conn, cfg config.ClickHouse) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		var there uint8
		if err := conn.QueryRow(ctx, "EXISTS TABLE "+quoted(cfg)).Scan(&there); err != nil || there == 0 {
			return 0, err
		}
		var rows uint64
		err := conn.QueryRow(ctx, "SELECT count() FROM "+quoted(cfg)).Scan(&rows)
		return int(rows), err
	}
}

// prebuilt is one column of a block: for maps and arrays the bytes of the
// protocol, which take the driver no reflection, for others a slice of values.
type prebuilt struct {
	wire   []byte
	values any
}

// prebuiltRate inserts the blocks into a table like the sink's.
func prebuiltRate(ctx context.Context, cfg config.ClickHouse, conn driver.Conn, blocks [][]prebuilt) (float64, error) {
	if err := conn.Exec(ctx, clickhouse.TableDDL(cfg)); err != nil {
		return 0, err
	}
	var names []string
	for _, c := range clickhouse.Columns() {
		names = append(names, clickhouse.Quote(c.Name))
	}
	insert := "INSERT INTO " + quoted(cfg) + " (" + strings.Join(names, ", ") + ")"
	var next atomic.Int64
	return rate(ctx, len(blocks)*sinkBatch, counter(conn, cfg), func(ctx context.Context) error {
		group, inserting := errgroup.WithContext(ctx)
		for range config.Default().Sink.Inserts {
			group.Go(func() error {
				for i := int(next.Add(1)) - 1; i < len(blocks); i = int(next.Add(1)) - 1 {
					if err := insertPrebuilt(inserting, conn, insert, fmt.Sprint("block ", i), blocks[i]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		<-ctx.Done() // counted out
		return ctx.Err()
	})
}

// drop spares the next round the merges of this one's parts.
func drop(ctx context.Context, conn driver.Conn, cfg config.ClickHouse) error {
	return conn.Exec(ctx, "DROP TABLE "+quoted(cfg)+" SYNC")
}

func quoted(cfg config.ClickHouse) string {
	database, table := clickhouse.TableName(cfg)
	return clickhouse.Quote(database) + "." + clickhouse.Quote(table)
}

func insertPrebuilt(ctx context.Context, conn driver.Conn, query, token string, block []prebuilt) error {
	ctx = driverclickhouse.Context(ctx, driverclickhouse.WithSettings(driverclickhouse.Settings{
		"async_insert": 0, "insert_deduplicate": 1, "insert_deduplication_token": token,
	}))
	batch, err := conn.PrepareBatch(ctx, query)
	if err != nil {
		return err
	}
	for i, c := range batch.Columns() {
		if block[i].wire == nil {
			_, err = c.Append(block[i].values)
		} else {
			err = c.Decode(proto.NewReader(bytes.NewReader(block[i].wire)), sinkBatch)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("column %s: %w", c.Name(), err), batch.Abort())
		}
	}
	return batch.Send()
}

// prebuild reads the table back, a column after the other, and cuts it into blocks.
func prebuild(ctx context.Context, conn driver.Conn, cfg config.ClickHouse, rows int) ([][]prebuilt, error) {
	blocks := make([][]prebuilt, rows/sinkBatch)
	rows = len(blocks) * sinkBatch
	for _, c := range clickhouse.Columns() {
		result, err := conn.Query(ctx, fmt.Sprintf("SELECT %s FROM %s ORDER BY id LIMIT %d", clickhouse.Quote(c.Name), quoted(cfg), rows))
		if err != nil {
			return nil, err
		}
		typed := result.ColumnTypes()[0].ScanType()
		values := reflect.MakeSlice(reflect.SliceOf(typed), 0, rows)
		for result.Next() {
			value := reflect.New(typed)
			if err := result.Scan(value.Interface()); err != nil {
				return nil, errors.Join(err, result.Close())
			}
			values = reflect.Append(values, value.Elem())
		}
		if err := errors.Join(result.Err(), result.Close()); err != nil {
			return nil, err
		}
		if values.Len() != rows {
			return nil, fmt.Errorf("%d rows of column %s, want %d", values.Len(), c.Name, rows)
		}
		for i := range blocks {
			built, err := prebuildColumn(c, values.Slice(i*sinkBatch, (i+1)*sinkBatch))
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", c.Name, err)
			}
			blocks[i] = append(blocks[i], built)
		}
	}
	return blocks, nil
}

func prebuildColumn(c clickhouse.Column, values reflect.Value) (prebuilt, error) {
	switch values.Type().Elem().Kind() {
	case reflect.Map, reflect.Slice:
	default:
		return prebuilt{values: values.Interface()}, nil
	}
	built, err := column.Type(c.Type).Column(c.Name, &column.ServerContext{Timezone: time.UTC})
	if err != nil {
		return prebuilt{}, err
	}
	if _, err := built.Append(values.Interface()); err != nil {
		return prebuilt{}, err
	}
	var buffer proto.Buffer
	built.Encode(&buffer)
	return prebuilt{wire: buffer.Buf}, nil
}
