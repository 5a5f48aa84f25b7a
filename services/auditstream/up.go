package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/auditstream/lifecycle"
	"github.com/auditstream/auditstream/services/auditstream/stack"
)

func (a *application) upCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "up",
		Short:   "Run the whole pipeline here, with Kafka, ClickHouse and S3 where none are named",
		GroupID: groupRun,
		Long: `Runs all three stages in one process. For whatever the configuration doesn't
name it starts a server of its own: a Kafka broker, the real ClickHouse engine
(fetched once with npm, about 180 MB), and, when no sources are configured, an S3
server with the bucket audit-logs; with embedded.s3: true also for the sources
that are, with their buckets. It makes the topics and the table, prints where
everything is, and stays up until SIGINT or SIGTERM.

Data is kept in ./.auditstream (embedded.directory) and is there again the next
time; remove the directory to begin anew. Ports are set in the section embedded.

Needs nothing but npm on the first run (or a clickhouse binary on PATH).

    auditstream up
    AUDITSTREAM_CLICKHOUSE_ADDRESSES=clickhouse:9000 auditstream up`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return a.up(command.Context())
		},
	}
}

// closeGrace is what closing the embedded servers may take after the stages.
const closeGrace = 30 * time.Second

func (a *application) up(ctx context.Context) error {
	p, err := a.newProcess(ctx, config.CommandUp)
	if err != nil {
		return err
	}
	// The first start downloads the engine; the admin server tells until then
	// that nothing is ready.
	p.health.Expect("pipeline")
	pipeline := lifecycle.Task{Name: "up", Run: func(ctx context.Context) error { return a.runPipeline(ctx, p) }}
	return lifecycle.Run(ctx, lifecycle.Grace+closeGrace, append(p.tasks(), pipeline)...)
}

func (a *application) runPipeline(ctx context.Context, p *process) (err error) {
	pipeline, err := stack.Start(ctx, p.cfg, p.options())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pipeline.Close()) }()
	if err := describe(a.stdout, pipeline); err != nil {
		return err
	}
	p.health.Report("pipeline", nil)
	return pipeline.Run(ctx)
}

// whereabouts is what a user of `up` wants to know.
type whereabouts struct {
	config.Config
	Directory               string
	OwnKafka, OwnS3, OwnCH  bool
	HTTP, Servers           string
	Table, View             string // View "": none
	Bucket, Prefix, Brokers string
	Topics                  string
}

var whereaboutsText = template.Must(template.New("").Parse(`
auditstream is up. ctrl-C ends it{{if or .OwnKafka .OwnS3 .OwnCH}}; its data stays in {{.Directory}}{{end}}.

  Kafka       {{.Brokers}}{{if .OwnKafka}} (embedded){{end}}
              topics {{.Topics}}
  ClickHouse  {{.Servers}}{{if .OwnCH}} (embedded; native protocol), http://{{.HTTP}} (HTTP), user default, no password{{end}}
              table {{.Table}}{{if .View}}, to be read through {{.View}}{{end}}
  S3          {{if .OwnS3}}{{.S3.Endpoint}} (embedded), access key {{.S3.AccessKeyID}}, secret key {{.S3.SecretAccessKey.Reveal}}, region {{.S3.Region}}{{else}}{{or .S3.Endpoint "AWS"}}{{end}}

{{- range .Sources}}
              bucket {{.Bucket}}{{if .Prefix}}, prefix {{.Prefix}}{{end}}: source {{.ID}}{{if .Queue.URL}}, told of by {{.Queue.URL}}{{end}}
{{- end}}
{{- if .Admin.Address}}
  Admin       http://{{.Admin.Address}}/metrics, /healthz, /readyz, /debug/pprof
{{- end}}
{{if .OwnS3}}
Put a file of audit logs (plain or compressed) into the bucket:

  curl --aws-sigv4 aws:amz:{{.S3.Region}}:s3 --user {{.S3.AccessKeyID}}:{{.S3.SecretAccessKey.Reveal}} \
    -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -T audit.log {{.S3.Endpoint}}/{{.Bucket}}/{{.Prefix}}audit.log

or with the aws command:

  AWS_ACCESS_KEY_ID={{.S3.AccessKeyID}} AWS_SECRET_ACCESS_KEY={{.S3.SecretAccessKey.Reveal}} AWS_REGION={{.S3.Region}} \
    aws --endpoint-url {{.S3.Endpoint}} s3 cp audit.log s3://{{.Bucket}}/{{.Prefix}}
{{end}}{{if .OwnCH}}
Ask:

  curl http://{{.HTTP}} --data-binary "SELECT actor['username'] AS who, eventName, count() FROM {{or .View .Table}}
    GROUP BY who, eventName ORDER BY count() DESC LIMIT 10 FORMAT PrettyCompact"
{{end}}
`))

func describe(w io.Writer, pipeline *stack.Stack) error {
	cfg := pipeline.Config()
	directory, err := filepath.Abs(cfg.Embedded.Directory)
	if err != nil {
		directory = cfg.Embedded.Directory
	}
	names := cfg.Topics.Names()
	view := cfg.ClickHouse.View
	if view != "" {
		view = cfg.ClickHouse.Database + "." + view
	}
	err = whereaboutsText.Execute(w, whereabouts{
		Config:    cfg,
		Directory: directory,
		OwnKafka:  pipeline.Kafka() != nil,
		OwnS3:     pipeline.S3() != nil,
		OwnCH:     pipeline.ClickHouse() != nil,
		HTTP:      cfg.Embedded.ClickHouseHTTPAddress,
		Servers:   clickHouseServers(cfg.ClickHouse),
		Table:     cfg.ClickHouse.Database + "." + cfg.ClickHouse.Table,
		View:      view,
		Bucket:    cfg.Sources[0].Bucket,
		Prefix:    cfg.Sources[0].Prefix,
		Brokers:   strings.Join(cfg.Kafka.Brokers, ", "),
		Topics:    strings.Join([]string{names.Objects, names.Raw, names.Normalized, names.DeadLetter, names.Ledger}, ", "),
	})
	if err != nil {
		return fmt.Errorf("print where everything is: %w", err)
	}
	return nil
}

// clickHouseServers names the first server of each shard.
func clickHouseServers(cfg config.ClickHouse) string {
	var first []string
	for _, shard := range cfg.PerShard() {
		first = append(first, shard.Addresses[0])
	}
	return strings.Join(first, ", ")
}
