package officialtypes

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// generator makes events by chance: the same ones for the same seed.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) *generator {
	return &generator{rand.New(rand.NewPCG(seed, 0))}
}

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// chance is true once in n times.
func (g *generator) chance(n int) bool { return g.IntN(n) == 0 }

// word is a name as Kubernetes allows it.
func (g *generator) word() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	var word strings.Builder
	for range 1 + g.IntN(12) {
		word.WriteByte(letters[g.IntN(len(letters))])
	}
	return word.String() + pick(g, []string{"", "", "-x", ".example.com", "-7d9c6bdf7c", ":v1"})
}

var pieces = []string{
	"a", "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9", " ", "é", "日本", "😀", "\u2028", "\ufeff", `"`, `\`, `\\"`, "/", "<", ">", "&", "\n", "\t", "\r", "\x00", "\x1f", "\x7f",
	"\xff", "\xc3", "\xed\xa0\x80", "\xf0\x9f\x98", "{", "}", "[", "]", ",", ":", `{"auditID":"x","verb":"get"}`, "null", "1e9", `\u0041`, "'", "%", "$Format", "12345678",
}

// text is whatever a client may send.
func (g *generator) text() string {
	var text strings.Builder
	for range g.IntN(6) {
		text.WriteString(pick(g, pieces))
	}
	return text.String()
}

// user is a user with what the column actor must say of it.
type user struct {
	info                                   authnv1.UserInfo
	kind, email, namespace, serviceAccount string
}

func (g *generator) newUser() user {
	var u user
	switch g.IntN(14) {
	case 0, 1, 2:
		u.namespace, u.serviceAccount = strings.ReplaceAll(g.word(), ":", "-"), strings.ReplaceAll(g.word(), ":", "-")
		u.kind, u.info.Username = "serviceaccount", "system:serviceaccount:"+u.namespace+":"+u.serviceAccount
		u.info.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + u.namespace, "system:authenticated"}
	case 3, 4:
		u.kind, u.info.Username = "node", "system:node:"+g.word()
		u.info.Groups = []string{"system:nodes", "system:authenticated"}
	case 5:
		u.kind, u.info.Username = "anonymous", "system:anonymous"
		u.info.Groups = []string{"system:unauthenticated"}
	case 6:
		u.kind, u.info.Username = "system", pick(g, []string{
			"system:apiserver", "system:kube-scheduler", "system:kube-controller-manager", "system:admin", "system:masters", "system:gke-controller", "system:serviceaccount:half",
			"eks:node-manager", "eks:certificate-controller", "aksService",
		})
	case 7, 8:
		u.email = strings.ReplaceAll(g.word(), ":", "-") + "@" + pick(g, []string{"example.com", "corp.example.co.uk", "project.iam.gserviceaccount.com"})
		u.kind, u.info.Username = "user", u.email
	case 9:
		u.kind, u.info.Username = "user", pick(g, []string{
			"kubernetes-admin", "kube:admin", "masterclient", "minikube-user", "arn:aws:sts::1:assumed-role/admin/jane@example.com", "oidc:jane@example.com", "Jane Doe <jane@example.com>",
			"CN=jane,O=dev", "550e8400-e29b-41d4-a716-446655440000", "jane@", "@example.com", "jane@localhost", "systematic", "ekso", "aksServices",
		})
	case 10:
		return user{} // of a request that failed before anybody was known
	case 11:
		u.kind, u.info.Username = "node", "kubelet-"+g.word()
		u.info.Groups = []string{"system:nodes"}
	default:
		u.kind, u.info.Username = "user", "x"+g.text()
	}
	if g.chance(2) {
		u.info.UID = pick(g, []string{"3f7ab1f0-3d36-41e4-9f8b-2c8f7d1d2c11", "admin", "aws-iam-authenticator:1:A", "x" + g.text()})
	}
	for range g.IntN(3) {
		u.info.Groups = append(u.info.Groups, pick(g, []string{"system:masters", "dev", "oidc:a,b", "group " + g.text()}))
	}
	u.info.Extra = g.extra()
	return u
}

func (g *generator) extra() map[string]authnv1.ExtraValue {
	if g.chance(2) {
		return nil
	}
	extra := map[string]authnv1.ExtraValue{}
	for range g.IntN(5) {
		var values authnv1.ExtraValue
		for range g.IntN(3) {
			values = append(values, "v"+g.text())
		}
		extra[pick(g, []string{"authentication.kubernetes.io/pod-name", "accessKeyId", "arn", "", "username", "scopes.authorization.openshift.io", "k " + g.word()})] = values
	}
	return extra
}

// sample is a typed event with what its makers know of it.
type sample struct {
	event   *auditv1.Event
	request request
	user    user
	address string // the client's
}

var trusted = []string{"10.0.0.0/8", "2001:db8::/32"}

// addresses makes source addresses and says which one is the client's.
func (g *generator) addresses() (texts []string, client string) {
	var valid []net.IP
	for range g.IntN(5) {
		switch g.IntN(9) {
		case 0:
			texts = append(texts, pick(g, []string{"", "not-an-ip", "99.999.999.999", "012.0.22.33", "1.2.3", "::g", "x" + g.text()}))
			continue
		case 1, 2:
			ip := net.IPv4(10, byte(g.IntN(256)), 1, byte(g.IntN(256)))
			texts, valid = append(texts, ip.String()), append(valid, ip)
		case 3:
			ip := net.ParseIP(fmt.Sprintf("2001:db8::%x", 1+g.IntN(1<<16-1)))
			texts, valid = append(texts, ip.String()), append(valid, ip)
		case 4:
			ip := net.ParseIP(fmt.Sprintf("2a00:1450:%x:%x::%x", g.IntN(1<<16), g.IntN(1<<16), g.IntN(1<<16)))
			texts, valid = append(texts, pick(g, []string{ip.String(), strings.ToUpper(ip.String()), "[" + ip.String() + "]:443"})), append(valid, ip)
		case 5:
			texts, valid = append(texts, "::1"), append(valid, net.IPv6loopback)
		default:
			ip := net.IPv4(203, 0, 113, byte(g.IntN(256)))
			texts, valid = append(texts, pick(g, []string{ip.String(), ip.String(), ip.String() + ":6443", "::ffff:" + ip.String()})), append(valid, ip)
		}
	}
	if len(valid) == 0 {
		return texts, ""
	}
	client = valid[0].String()
	for _, ip := range valid {
		proxy := false
		for _, text := range trusted {
			_, network, _ := net.ParseCIDR(text)
			proxy = proxy || network.Contains(ip)
		}
		if !proxy {
			client = ip.String() // the last such one stays
		}
	}
	return texts, client
}

func (g *generator) clock() metav1.MicroTime {
	switch g.IntN(12) {
	case 0:
		return metav1.MicroTime{}
	case 1:
		return metav1.NewMicroTime(time.Date(1+g.IntN(9998), time.Month(1+g.IntN(12)), 1+g.IntN(31), g.IntN(24), g.IntN(60), g.IntN(60), g.IntN(1e9), time.UTC))
	case 2:
		zone := time.FixedZone("", (g.IntN(28*60)-14*60)*60)
		return metav1.NewMicroTime(time.Unix(g.Int64N(1<<32), g.Int64N(1e9)).In(zone))
	}
	return metav1.NewMicroTime(time.Unix(1_500_000_000+g.Int64N(500_000_000), g.Int64N(1e9)))
}

func (g *generator) newSample(t *testing.T) sample {
	s := sample{request: g.newRequest(t), user: g.newUser()}
	var e auditv1.Event
	s.event = &e
	e.Level = pick(g, []auditv1.Level{auditv1.LevelMetadata, auditv1.LevelRequest, auditv1.LevelRequestResponse})
	e.AuditID = types.UID(pick(g, []string{"0b1f5c1e-9c55-4a6e-8f0e-3a9f2f6d7c11", "abc-123", "x" + g.text()}))
	e.Stage = pick(g, []auditv1.Stage{auditv1.StageRequestReceived, auditv1.StageResponseStarted, auditv1.StageResponseComplete, auditv1.StageResponseComplete, auditv1.StagePanic})
	e.RequestURI, e.Verb = s.request.uri, s.request.info.Verb
	e.User = s.user.info
	if g.chance(5) {
		impersonated := g.newUser().info
		e.ImpersonatedUser = &impersonated
		if g.chance(2) {
			e.AuthenticationMetadata = &auditv1.AuthenticationMetadata{ImpersonationConstraint: "impersonate:user-info"}
		}
	}
	e.SourceIPs, s.address = g.addresses()
	e.UserAgent = g.text()
	if info := s.request.info; info.IsResourceRequest && !g.chance(10) {
		e.ObjectRef = &auditv1.ObjectReference{
			Resource: info.Resource, Namespace: info.Namespace, Name: info.Name, APIGroup: info.APIGroup, APIVersion: info.APIVersion, Subresource: info.Subresource,
			UID: types.UID(g.text()), ResourceVersion: pick(g, []string{"", "88412093"}),
		}
	}
	if e.Stage != auditv1.StageRequestReceived || g.chance(20) {
		e.ResponseStatus = g.status()
	}
	if s.request.body != nil {
		e.RequestObject = &runtime.Unknown{Raw: s.request.body, ContentType: runtime.ContentTypeJSON}
	}
	if g.chance(3) {
		e.ResponseObject = &runtime.Unknown{ContentType: runtime.ContentTypeJSON, Raw: []byte(pick(g, []string{
			`{"kind":"Secret","data":{"verb":"delete","stage":"Panic"},"user":{"username":"x"}}`, `[]`, `"skipped-too-big-size-object"`, `null`, `{"a":[[[{"":{}}]]],"b":-1.5E+3,"c":"\ud83d\ude00\"\\"}`,
		}))}
	}
	e.RequestReceivedTimestamp, e.StageTimestamp = g.clock(), g.clock()
	e.Annotations = g.annotations()
	return s
}

func (g *generator) status() *metav1.Status {
	s := &metav1.Status{Code: pick(g, []int32{0, 101, 200, 201, 304, 401, 403, 404, 409, 429, 500, 503, -1, 1<<31 - 1})}
	if g.chance(2) {
		s.ResourceVersion, s.Continue = pick(g, []string{"", "12"}), g.text()
		if left := g.Int64N(1000); g.chance(2) {
			s.RemainingItemCount = &left
		}
	}
	if g.chance(2) {
		s.Status, s.Message, s.Reason = "Failure", g.text(), metav1.StatusReasonForbidden
		s.Details = &metav1.StatusDetails{Name: g.text(), Kind: "pods", Causes: []metav1.StatusCause{{Message: g.text(), Field: "code"}}}
	}
	return s
}

func (g *generator) annotations() map[string]string {
	if g.chance(5) {
		return nil
	}
	annotations := map[string]string{}
	for range g.IntN(6) {
		key := pick(g, []string{
			"authorization.k8s.io/decision", "authorization.k8s.io/reason", "audit.k8s.io/truncated", "pod-security.kubernetes.io/enforce-policy",
			"missing-san.invalid-cert.kubernetes.io/" + g.word(), "mutation.webhook.admission.k8s.io/round_0_index_2", `"` + g.word(), "Authorization.k8s.io/Decision", "decision",
		})
		annotations[key] = pick(g, []string{"allow", "", "true", g.text()})
	}
	if g.chance(30) {
		for range 40 {
			annotations[g.word()] = g.text()
		}
	}
	return annotations
}
