package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

// View is the picture in a terminal.
type View struct {
	Interval time.Duration
	Where    string // what is looked at, for the title
	Output   io.Writer
	Input    io.Reader
	Environ  []string
}

// Run draws a sample at each interval until q is pressed or ctx is done. It
// returns when no sample is under way any more.
func (v View) Run(ctx context.Context, sampler *Sampler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer sampler.Close() // waits for the sample that the cancellation ends
	defer cancel()
	m := newModel(func() (*Sample, error) { return sampler.Sample(ctx) }, v.Interval, v.Where)
	program := tea.NewProgram(m, tea.WithContext(ctx), tea.WithOutput(v.Output), tea.WithInput(v.Input),
		tea.WithEnvironment(v.Environ), tea.WithoutSignalHandler()) // signals are the process's
	_, err := program.Run()
	switch {
	case err == nil, errors.Is(err, tea.ErrInterrupted):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("draw on the terminal: %w", err)
}

// model is the state of the screen. There is always either a sample on its way
// or a tick that will ask for the next.
type model struct {
	take     func() (*Sample, error)
	interval time.Duration
	where    string

	sample        *Sample
	err           error
	order         Order
	paused        bool
	scroll        int
	width, height int
}

type (
	sampled struct {
		sample *Sample
		err    error
	}
	due struct{}
)

func newModel(take func() (*Sample, error), interval time.Duration, where string) model {
	return model{take: take, interval: interval, where: where}
}

// Init asks for the first sample.
func (m model) Init() tea.Cmd { return m.look }

func (m model) look() tea.Msg {
	sample, err := m.take()
	return sampled{sample, err}
}

// Update takes a key, a sample, or the time for the next.
func (m model) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch message := message.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = message.Width, message.Height
	case sampled:
		if !m.paused {
			m.err = message.err
			if message.err == nil {
				m.sample = message.sample
			}
		}
		return m, tea.Tick(m.interval, func(time.Time) tea.Msg { return due{} })
	case due:
		if m.paused { // goes on looking when it is no longer
			return m, tea.Tick(m.interval, func(time.Time) tea.Msg { return due{} })
		}
		return m, m.look
	case tea.KeyPressMsg:
		switch message.String() {
		case "q", "ctrl+c", "esc":
			return m, tea.Quit
		case "p", "space":
			m.paused = !m.paused
		case "s":
			m.order = (m.order + 1) % orders
		case "down", "j":
			m.scroll++
		case "up", "k":
			m.scroll = max(m.scroll-1, 0)
		}
	}
	return m, nil
}

var (
	headStyle    = lipgloss.NewStyle().Bold(true)
	faintStyle   = lipgloss.NewStyle().Faint(true)
	problemStyle = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red)
)

// View draws.
func (m model) View() tea.View {
	view := tea.NewView(m.draw())
	view.AltScreen = true
	view.WindowTitle = "auditstream top"
	return view
}

func (m model) draw() string {
	state := "every " + m.interval.String()
	if m.paused {
		state = "paused"
	}
	title := headStyle.Render("auditstream top") + "  " + m.where + "  " + state + "  sorted by " + m.order.String()
	var body []string
	if m.sample != nil {
		title += "  " + m.sample.At.Local().Format(time.TimeOnly)
		for _, part := range m.sample.tables(m.order) {
			body = append(body, "", headStyle.Render(part.lines[0]))
			body = append(body, part.lines[1:]...)
		}
	}
	switch {
	case m.err != nil:
		body = append([]string{"", problemStyle.Render(strings.Join(strings.Fields(m.err.Error()), " "))}, body...)
	case m.sample == nil:
		body = append(body, "", "looking …")
	}
	footer := faintStyle.Render("q quit  p pause  s sort by lag, age, rate, name  ↑↓ scroll")
	if room := m.height - 2; m.height > 0 && len(body) > room {
		from := min(m.scroll, len(body)-max(room, 0))
		body = body[from:min(from+max(room, 0), len(body))]
	}
	lines := append(append([]string{title}, body...), footer)
	if m.width > 0 {
		cut := lipgloss.NewStyle().MaxWidth(m.width)
		for i := range lines {
			lines[i] = cut.Render(lines[i])
		}
	}
	return strings.Join(lines, "\n")
}
