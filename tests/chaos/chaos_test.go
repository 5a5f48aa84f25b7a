package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/embedded"
	"github.com/auditstream/auditstream/tests/servers"
	"github.com/auditstream/auditstream/topics"
)

func TestMain(m *testing.M) {
	runBrokerIfAsked()
	servers.Main(m)
}

// TestCampaign is a short campaign on each broker: every kind of fault once,
// though not at every place. `go tool task chaos` runs longer ones.
func TestCampaign(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes minutes")
	}
	for _, kafka := range []string{"kfake", "apache"} {
		t.Run(kafka, func(t *testing.T) {
			directory, err := os.MkdirTemp("", "auditstream-chaos-") // kept when it fails
			require.NoError(t, err)
			err = campaignOnce(t.Context(), options{
				kafka: kafka, duration: 100 * time.Second, least: 40 * time.Second, settle: 75 * time.Second, seed: uint64(time.Now().UnixNano() % 1_000_000),
				rate: 1_500, directory: directory, logLevel: "info", short: true, out: t.Output(),
			})
			absent := errors.Is(err, servers.ErrNoJava) || errors.Is(err, embedded.ErrEngineUnavailable)
			if absent && os.Getenv("CI") != "true" {
				t.Skip(err)
			}
			require.NoError(t, err)
		})
	}
}

// The campaign's judge must be able to condemn.
func TestVerdict(t *testing.T) {
	f := &feeder{}
	f.account(&object{id: "0123456789abcdef0123456789abcdef", kinds: []lineKind{eventLine, badLine, blankLine, listLine, tooLongLine}})
	f.account(&object{id: "ffffffffffffffffffffffffffffffff", corrupt: true})
	require.EqualValues(t, 4, f.expectedRows.Load())
	require.EqualValues(t, 3, f.expectedLetters.Load())
	const (
		first  = "0123456789abcdef0123456789abcdef-000000000001"
		second = "0123456789abcdef0123456789abcdef-000000000002"
		fourth = "0123456789abcdef0123456789abcdef-000000000004"
	)
	letters := []topics.DeadLetterRecord{
		{Object: first[:32], Line: 2, Reason: "not-json"},
		{Object: first[:32], Line: 5, Reason: topics.ReasonLineTooLong},
		{Object: "ffffffffffffffffffffffffffffffff", Reason: topics.ReasonObjectCorrupt},
	}
	judge := func(rows []string, letters []topics.DeadLetterRecord) *outcome {
		v := newVerdict(f)
		for _, id := range rows {
			v.row(id)
		}
		for i := range letters {
			v.letter(&letters[i])
		}
		return v.conclude()
	}
	all := []string{first, fourth, fourth + ".000001", fourth + ".000002"}
	require.True(t, judge(all, letters).clean())
	require.Len(t, judge(all[1:], letters).lost, 1)
	require.Len(t, judge(append(all, first), letters).doubled, 1)
	require.Len(t, judge(append(all, second), letters).surplus, 1)
	require.Len(t, judge(append(all, fourth+".000003"), letters).surplus, 1)
	require.Len(t, judge(all, letters[1:]).lost, 1)
	require.Len(t, judge(all, letters[:2]).lost, 1)
	require.Len(t, judge(all, append(letters, letters[2])).doubled, 1)
	require.Len(t, judge(all, append(letters, letters[0])).doubled, 1)
}

// A reply that is lost is one to a request that arrived.
func TestProxyLosesReplies(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	arrived := make(chan string, 1)
	go func() {
		connection, err := server.Accept()
		if err != nil {
			return
		}
		text := make([]byte, 8)
		n, _ := connection.Read(text)
		_, _ = connection.Write([]byte("done"))
		arrived <- string(text[:n])
	}()
	p, err := newProxy()
	require.NoError(t, err)
	defer p.close()
	p.to(server.Addr().String())
	client, err := net.Dial("tcp", p.address())
	require.NoError(t, err)
	rng := (&campaign{}).random("test")
	var deaf []*link
	require.Eventually(t, func() bool { deaf = p.deafen(rng, 1); return len(deaf) == 1 }, 5*time.Second, time.Millisecond)
	_, err = client.Write([]byte("do it"))
	require.NoError(t, err)
	require.Equal(t, "do it", <-arrived)
	require.Eventually(t, func() bool { return deaf[0].lost.Load() == 4 }, 5*time.Second, time.Millisecond)
	require.Equal(t, 1, lostReplies(deaf))
	said, err := io.ReadAll(client)
	require.Empty(t, said)
	require.False(t, errors.Is(err, context.DeadlineExceeded))
}
