package topics

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func sampleSettings(partitions int32, retention time.Duration) []Settings {
	options := SettingsOptions{Partitions: partitions, ReplicationFactor: -1, Retention: retention, MaxMessageBytes: MaxMessageBytes(1 << 20)}
	fixed := options
	fixed.PartitionsFixed = true
	return []Settings{NewSettings("acme.objects", fixed), NewSettings("acme.raw", options)}
}

func newAdminClient(t *testing.T) *kadm.Client {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

func planned(t *testing.T, admin *kadm.Client, settings []Settings) *Plan {
	t.Helper()
	plan, err := NewPlan(context.Background(), admin, settings)
	require.NoError(t, err)
	return plan
}

func TestApplyCreatesThenFindsNothingToDo(t *testing.T) {
	admin := newAdminClient(t)
	settings := sampleSettings(3, time.Hour)
	plan := planned(t, admin, settings)
	require.Len(t, plan.Changes, 2)
	require.NoError(t, plan.Apply(context.Background()))

	details, err := admin.ListTopics(kadm.WithAuthorizedOps(context.Background()), "acme.objects", "acme.raw")
	require.NoError(t, err)
	require.NoError(t, details.Error())
	require.Len(t, details["acme.objects"].Partitions, 3)

	again := planned(t, admin, settings)
	require.Empty(t, again.Changes)
	var printed bytes.Buffer
	require.NoError(t, again.Print(&printed))
	require.Equal(t, "topics are as configured\n", printed.String())
	require.NoError(t, plan.Apply(context.Background()), "a topic created meanwhile is no error")
}

func TestApplyChangesRetentionAndAddsPartitions(t *testing.T) {
	admin := newAdminClient(t)
	require.NoError(t, planned(t, admin, sampleSettings(3, time.Hour)).Apply(context.Background()))

	wanted := sampleSettings(3, 2*time.Hour)
	wanted[1].Partitions = 5
	plan := planned(t, admin, wanted)
	var printed bytes.Buffer
	require.NoError(t, plan.Print(&printed))
	require.Equal(t, "acme.objects: retention.ms 3600000 → 7200000\n"+
		"acme.raw: partitions 3 → 5\n"+
		"acme.raw: retention.ms 3600000 → 7200000\n", printed.String())
	require.NoError(t, plan.Apply(context.Background()))
	require.Empty(t, planned(t, admin, wanted).Changes)
}

func TestApplyRefusesWhatWouldLoseRecords(t *testing.T) {
	admin := newAdminClient(t)
	require.NoError(t, planned(t, admin, sampleSettings(3, time.Hour)).Apply(context.Background()))

	wanted := sampleSettings(2, 2*time.Hour)
	wanted[0].Partitions = 6
	plan := planned(t, admin, wanted)
	err := plan.Apply(context.Background())
	require.ErrorIs(t, err, ErrConflict)
	require.ErrorContains(t, err, "acme.objects: partitions is 3, configured 6")
	require.ErrorContains(t, err, "acme.raw: partitions is 3, configured 2")

	details, err := admin.ListTopics(kadm.WithAuthorizedOps(context.Background()), "acme.objects", "acme.raw")
	require.NoError(t, err)
	require.Len(t, details["acme.objects"].Partitions, 3)
	require.Equal(t, plan.Changes, planned(t, admin, wanted).Changes, "with a conflict nothing at all is changed")
}
