package top

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/stretchr/testify/require"
)

func seconds(number float64) *float64 { return &number }

func drawnSample() *Sample {
	stage := func(name string, lag int64, age float64) Stage {
		s := Stage{Name: name, State: "Stable"}
		for partition := range int32(2) {
			s.Partitions = append(s.Partitions, Partition{
				Topic: "of-" + name, Partition: partition, Lag: Lag{Stable: lag, HighWatermark: lag, Seconds: seconds(age)}, Consumed: seconds(age * 2),
			})
		}
		s.sum()
		return s
	}
	return &Sample{At: time.Unix(1_700_000_000, 0), Stages: []Stage{stage("a", 1, 50), stage("b", 30, 4), stage("c", 2, 500)}}
}

func press(t *testing.T, m tea.Model, key string) (model, tea.Cmd) {
	t.Helper()
	message := tea.KeyPressMsg{Code: rune(key[0]), Text: key}
	if key == "ctrl+c" {
		message = tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
	}
	next, command := m.Update(message)
	return next.(model), command
}

func TestModel(t *testing.T) {
	taken := 0
	m := newModel(func() (*Sample, error) { taken++; return drawnSample(), nil }, time.Millisecond, "broker:9092")
	require.Contains(t, m.draw(), "looking")
	first, ok := m.Init()().(sampled)
	require.True(t, ok)
	require.Equal(t, 1, taken)

	next, command := m.Update(first)
	m = next.(model)
	require.IsType(t, due{}, command(), "after a sample comes the time for the next")
	require.Contains(t, m.draw(), "broker:9092")
	_, command = m.Update(due{})
	require.IsType(t, sampled{}, command())

	// Sorting.
	place := func(m model) string { // of the first line of partitions
		_, after, found := strings.Cut(m.draw(), "PARTITION  ")
		require.True(t, found)
		return strings.Fields(strings.Split(after, "\n")[1])[0]
	}
	for _, want := range []string{"of-b/0", "of-c/0", "of-c/0", "of-a/0", "of-b/0"} {
		require.Equal(t, want, place(m), m.order)
		m, _ = press(t, m, "s")
	}

	// Pause: a sample that was on its way does not show, and none is taken.
	m, _ = press(t, m, "p")
	require.Contains(t, m.draw(), "paused")
	shown := m.sample
	next, _ = m.Update(sampled{sample: drawnSample()})
	require.Same(t, shown, next.(model).sample)
	before := taken
	_, command = m.Update(due{})
	require.IsType(t, due{}, command())
	require.Equal(t, before, taken)
	m, _ = press(t, m, "p")

	// What fails is shown above what was seen last, and goes away.
	next, command = m.Update(sampled{err: errors.New("broker is\naway")})
	require.NotNil(t, command)
	require.Contains(t, next.(model).draw(), "broker is away")
	require.Contains(t, next.(model).draw(), "of-b/0")
	next, _ = next.Update(sampled{sample: drawnSample()})
	require.NotContains(t, next.(model).draw(), "away")

	for _, key := range []string{"q", "ctrl+c"} {
		_, command = press(t, m, key)
		require.IsType(t, tea.QuitMsg{}, command())
	}
	require.True(t, m.View().AltScreen)
}

func TestSmallScreen(t *testing.T) {
	m := newModel(nil, time.Second, "w")
	m.sample = drawnSample()
	for _, size := range [][2]int{{20, 5}, {200, 10}, {1, 1}, {80, 200}} {
		next, _ := m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		for range 100 {
			next, _ = next.Update(tea.KeyPressMsg{Code: tea.KeyDown})
		}
		lines := strings.Split(next.(model).draw(), "\n")
		require.LessOrEqual(t, len(lines), max(size[1], 2), fmt.Sprint(size))
	}
}

func TestNumbersAsPeopleReadThem(t *testing.T) {
	for number, want := range map[float64]string{0.85: "850ms", 4.25: "4.2s", 12: "12s", 200: "3m20s", 300: "5m", 18600: "5h10m", 183600: "2d3h"} {
		require.Equal(t, want, inSeconds(number))
	}
	require.Equal(t, "0-3,7", ranges([]int32{0, 1, 2, 3, 7}))
	require.Equal(t, "?", age(nil))
	require.Equal(t, "-", age(new(float64)))
}
