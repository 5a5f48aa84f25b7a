package stack

import (
	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/pkg/embedded"
)

// Here fills in, for what a cfg without brokers doesn't name, where an `up` with
// the same configuration listens on this machine, so that commands that look at
// a pipeline find that one without being told. With brokers another pipeline is
// meant, of which nothing is here.
func Here(cfg config.Config) config.Config {
	if len(cfg.Kafka.Brokers) > 0 {
		return cfg
	}
	cfg.Kafka.Brokers = []string{cfg.Embedded.KafkaAddress}
	if !cfg.ClickHouse.Named() {
		useEmbeddedClickHouse(&cfg, cfg.Embedded.ClickHouseTCPAddress)
	}
	if ownS3(&cfg) {
		useEmbeddedS3(&cfg, embedded.S3AccessAt(cfg.Embedded.S3Address))
	}
	if len(cfg.Sources) == 0 {
		cfg.Sources = []config.Source{localSource()}
	}
	return cfg
}

// ownS3 tells whether `up` starts an S3 server. Without sources there is nothing
// to read from but our own; with sources and no endpoint they are AWS's, unless
// the configuration says that they are ours.
func ownS3(cfg *config.Config) bool {
	return cfg.Embedded.S3 || (cfg.S3.Endpoint == "" && len(cfg.Sources) == 0)
}

func useEmbeddedClickHouse(cfg *config.Config, address string) {
	cfg.ClickHouse.Addresses = []string{address}
	cfg.ClickHouse.Username, cfg.ClickHouse.Password = "default", ""
}

func useEmbeddedS3(cfg *config.Config, access embedded.S3Access) {
	cfg.S3 = config.S3{
		Endpoint:        access.Endpoint,
		Alias:           cfg.S3.Alias,
		Region:          access.Region,
		PathStyle:       true,
		AccessKeyID:     access.AccessKeyID,
		SecretAccessKey: config.Secret(access.SecretAccessKey),
	}
	if cfg.S3.Alias == "" {
		cfg.S3.Alias = embeddedAlias
	}
}

// localSource is what `up` reads when no source is configured.
func localSource() config.Source {
	source := config.DefaultSource()
	source.ID, source.Workspace, source.Bucket = DefaultSourceID, "default", DefaultBucket
	source.Listing.Interval = localListing
	return source
}
