package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/auditstream/auditstream/pkg/audit"
	"github.com/auditstream/auditstream/pkg/event"
	"github.com/auditstream/auditstream/pkg/generate"
	"github.com/auditstream/auditstream/pkg/identity"
)

var benchSource = &audit.Source{WorkspaceID: "default", ID: "bench", Type: "kubernetes-audit"}

var benchObject = identity.ObjectID("bench", "bench", "bench", "bench")

// lines generates n lines; with a size, only those of about that many bytes.
func lines(seed uint64, shape generate.Shape, n, about int) ([][]byte, error) {
	generator, err := generate.New(generate.Options{Seed: seed, Shape: shape})
	if err != nil {
		return nil, err
	}
	result := make([][]byte, 0, n)
	var line []byte
	for len(result) < n {
		line, _ = generator.AppendLine(line[:0])
		if about == 0 || len(line) > about*3/4 && len(line) < about*5/4 {
			result = append(result, bytes.Clone(line))
		}
	}
	return result, nil
}

// benchNormalizer compares with a decoder that looks at every token of the same
// lines and keeps nothing.
func benchNormalizer(_ context.Context, o options) ([]figure, error) {
	var figures []figure
	for _, set := range []struct {
		name  string
		shape generate.Shape
		about int
	}{
		{"2 KB events", generate.Bare, 2048},
		{"any events", generate.Bare, 0},
		{"Fluent Bit, merged", generate.Merged, 2048},
	} {
		sample, err := lines(o.seed, set.shape, 500, set.about)
		if err != nil {
			return nil, err
		}
		size := 0
		for _, line := range sample {
			size += len(line)
		}
		average := float64(size) / float64(len(sample))
		var allocations int64
		passes, events, err := inTurns(o.rounds,
			func(int) (float64, error) {
				result, err := tokenPass(sample)
				return 1e9 / float64(result.NsPerOp()), err
			},
			func(int) (float64, error) {
				result, err := normalizing(sample)
				allocations = result.AllocsPerOp()
				return 1e9 / float64(result.NsPerOp()), err
			})
		if err != nil {
			return nil, err
		}
		perEvent, perPass := 1e9/events, 1e9/passes
		name := "normalizer, " + set.name
		figures = append(figures,
			figure{
				name: name, value: perEvent, ceiling: perPass, unit: "ns/event", ratio: perEvent / perPass, target: 1.2, atMost: true,
				against: "pass over the tokens of the same lines (jsontext)",
			},
			figure{name: name, value: average / perEvent * 1e3, unit: "MB/s", against: fmt.Sprintf("(lines of %.0f bytes on average; token pass %.0f MB/s)", average, average/perPass*1e3)},
			figure{name: name, value: float64(allocations), unit: "allocs/event", ratio: float64(allocations), target: 0, atMost: true, against: ""},
		)
	}
	return figures, nil
}

func normalizing(sample [][]byte) (testing.BenchmarkResult, error) {
	normalizer := audit.NewNormalizer(nil)
	rows, events := 0, 0
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		emit := func(*event.Row) { rows++ }
		for i := 0; b.Loop(); i++ {
			normalizer.Normalize(benchSource, audit.Line{Bytes: sample[i%len(sample)], ObjectID: benchObject, Number: int64(i + 1)}, emit)
			events++
		}
	})
	if rows != events || events == 0 {
		return result, fmt.Errorf("%d rows of %d events", rows, events)
	}
	return result, nil
}

func tokenPass(sample [][]byte) (testing.BenchmarkResult, error) {
	var failed error
	result := testing.Benchmark(func(b *testing.B) {
		reader := new(bytes.Buffer)
		decoder := jsontext.NewDecoder(reader)
		for i := 0; b.Loop(); i++ {
			*reader = *bytes.NewBuffer(sample[i%len(sample)]) // which the decoder reads in place
			decoder.Reset(reader)
			for {
				if _, err := decoder.ReadToken(); err != nil {
					if !errors.Is(err, io.EOF) {
						failed = err
					}
					break
				}
			}
		}
	})
	return result, failed
}
