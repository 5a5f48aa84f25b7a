package config

import (
	"time"
)

const (
	day     = 24 * time.Hour
	century = 36500 * day // longer than any retention that is meant
)

func (c *checker) kafka(k *Kafka) {
	c.addresses("kafka.brokers", k.Brokers)
	c.identifier("kafka.clientID", k.ClientID, 249)
	c.identifier("kafka.group", k.Group, 200)
	c.identifier("kafka.instance", k.Instance, 200)
	c.duration("kafka.transactionTimeout", k.TransactionTimeout, time.Second, MaxTransactionTimeout)
	c.duration("kafka.sessionTimeout", k.SessionTimeout, time.Second, 30*time.Minute)
	c.tls("kafka.tls", &k.TLS)
	c.sasl(&k.SASL)
}

const (
	mechanismPlain       = "PLAIN"
	mechanismSCRAM256    = "SCRAM-SHA-256"
	mechanismSCRAM512    = "SCRAM-SHA-512"
	mechanismOAuthBearer = "OAUTHBEARER"
	mechanismMSKIAM      = "AWS_MSK_IAM"
)

func (c *checker) sasl(s *SASL) {
	const section = "kafka.sasl."
	given := []struct {
		name      string
		set       bool
		mechanism string // the group of mechanisms it belongs to
	}{
		{"username", s.Username != "", "password"},
		{"password", s.Password != "", "password"},
		{"passwordFile", s.PasswordFile != "", "password"},
		{"token", s.Token != "", mechanismOAuthBearer},
		{"tokenFile", s.TokenFile != "", mechanismOAuthBearer},
		{"tokenURL", s.TokenURL != "", mechanismOAuthBearer},
		{"clientID", s.ClientID != "", mechanismOAuthBearer},
		{"clientSecret", s.ClientSecret != "", mechanismOAuthBearer},
		{"clientSecretFile", s.ClientSecretFile != "", mechanismOAuthBearer},
		{"scopes", len(s.Scopes) > 0, mechanismOAuthBearer},
		{"roleARN", s.RoleARN != "", mechanismMSKIAM},
		{"region", s.Region != "", mechanismMSKIAM},
	}
	used := s.Mechanism
	switch s.Mechanism {
	case "":
	case mechanismPlain, mechanismSCRAM256, mechanismSCRAM512:
		used = "password"
		if s.Username == "" {
			c.problem(section+"username", "missing: %s needs it", s.Mechanism)
		}
		if s.Password == "" && s.PasswordFile == "" {
			c.problem(section+"password", "missing: %s needs it, or passwordFile", s.Mechanism)
		}
	case mechanismOAuthBearer:
		c.bearer(s)
	case mechanismMSKIAM:
		// Without a role the default credential chain is used, which needs nothing.
	default:
		c.oneOf(section+"mechanism", s.Mechanism,
			mechanismPlain, mechanismSCRAM256, mechanismSCRAM512, mechanismOAuthBearer, mechanismMSKIAM)
		return
	}
	for _, one := range given {
		switch {
		case !one.set || one.mechanism == used:
		case used == "":
			c.problem(section+one.name, "is set, but kafka.sasl.mechanism is not")
		default:
			c.problem(section+one.name, "is set, but %s doesn't use it", s.Mechanism)
		}
	}
}

// bearer checks that there is exactly one way to a token.
func (c *checker) bearer(s *SASL) {
	const section = "kafka.sasl."
	ways := 0
	for _, set := range []bool{s.Token != "", s.TokenFile != "", s.TokenURL != ""} {
		if set {
			ways++
		}
	}
	switch {
	case ways == 0:
		c.problem(section+"token", "missing: %s needs it, or tokenFile, or tokenURL with clientID and clientSecret", s.Mechanism)
	case ways > 1:
		c.problem(section+"token", "more than one of token, tokenFile and tokenURL is set; keep one of them")
	}
	if s.TokenFile != "" {
		c.readFile(section+"tokenFile", s.TokenFile)
	}
	if s.TokenURL == "" {
		if s.ClientID != "" || s.ClientSecret != "" || s.ClientSecretFile != "" {
			c.problem(section+"tokenURL", "missing: clientID or clientSecret is set, and they go together")
		}
		return
	}
	c.url(section+"tokenURL", s.TokenURL)
	if s.ClientID == "" {
		c.problem(section+"clientID", "missing: tokenURL is set, and they go together")
	}
	if s.ClientSecret == "" && s.ClientSecretFile == "" {
		c.problem(section+"clientSecret", "missing: tokenURL is set, and they go together")
	}
}

func (c *checker) topics(t *Topics) {
	if t.Prefix != "" {
		c.identifier("topics.prefix", t.Prefix, 200)
	}
	replicas := int(t.ReplicationFactor)
	if replicas != -1 && (replicas < 1 || replicas > 1000) {
		c.problem("topics.replicationFactor", "%d is out of range; -1 (the broker's default) or from 1", replicas)
	}
	if c.number("topics.minInSyncReplicas", t.MinInSyncReplicas, 0, 1000) && replicas > 0 && t.MinInSyncReplicas > replicas {
		c.problem("topics.minInSyncReplicas", "%d is more than topics.replicationFactor, %d: nothing could be written",
			t.MinInSyncReplicas, replicas)
	}
	c.size("topics.lineLimit", t.LineLimit, 1<<10, MaxLineLimit)
	for _, one := range []struct {
		key   string
		topic Topic
	}{
		{"topics.objects", t.Objects},
		{"topics.raw", t.Raw},
		{"topics.normalized", t.Normalized},
		{"topics.deadletter", t.DeadLetter},
		{"topics.ledger", t.Ledger},
	} {
		c.number(one.key+".partitions", int(one.topic.Partitions), 1, 10_000)
		c.duration(one.key+".retention", one.topic.Retention, time.Minute, century)
	}
}
