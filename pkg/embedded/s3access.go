package embedded

// S3Access is how a client reaches the S3 server, also one that another process
// has started.
type S3Access struct {
	Endpoint, Region, AccessKeyID, SecretAccessKey string
}

// S3AccessAt is that of a server that listens on the address.
func S3AccessAt(address string) S3Access {
	return S3Access{
		Endpoint: "http://" + address, Region: s3Region, AccessKeyID: s3AccessKeyID, SecretAccessKey: s3SecretAccessKey,
	}
}
