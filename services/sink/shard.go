package sink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// shard is one place of the table. Which one a partition's rows go to is fixed
// by the partition's number, so that a row that comes again comes to the same
// shard and collapses with itself there.
type shard struct {
	number int
	table  table
	hold   *hold
}

// target names shard and table in intents.
func (s *shard) target() string { return s.name(s.table.Name()) }

func (s *shard) name(table string) string { return strconv.Itoa(s.number) + "/" + table }

func (s *Service) shardOf(partition int32) *shard {
	return s.shards[int(partition)%len(s.shards)]
}

func (s *Service) prepareShards(ctx context.Context) error {
	for _, shard := range s.shards {
		if err := shard.table.Prepare(ctx); err != nil {
			return err
		}
	}
	return nil
}

// empty reports whether no shard holds a row.
func (s *Service) empty(ctx context.Context) (bool, error) {
	for _, shard := range s.shards {
		if empty, err := shard.table.Empty(ctx); err != nil || !empty {
			return false, err
		}
	}
	return true, nil
}

func (s *Service) closeTables() error {
	var problems []error
	for _, shard := range s.shards {
		if err := shard.table.Close(); err != nil {
			problems = append(problems, fmt.Errorf("close table %s: %w", shard.target(), err))
		}
	}
	return errors.Join(problems...)
}

// expander makes a partition's own Expand, nil without.
func (s *Service) expander() Expand {
	if s.options.NewExpand == nil {
		return nil
	}
	return s.options.NewExpand()
}
