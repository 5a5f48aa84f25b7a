package officialtypes

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	genericrequest "k8s.io/apiserver/pkg/endpoints/request"
)

// request is one HTTP request with what is known of it from how it was made.
type request struct {
	method, uri string
	info        *genericrequest.RequestInfo // as the API server reads it

	name     string // what the column eventName must say
	resource string // what the column resources must say
	readOnly bool
	body     []byte // JSON, or nil
}

type kind struct {
	group, version, resource string
	clusterScoped            bool
	subresources             []string
	review                   bool
}

var kinds = []kind{
	{version: "v1", resource: "pods", subresources: []string{"exec", "attach", "portforward", "proxy", "log", "status", "eviction", "binding", "ephemeralcontainers", "resize"}},
	{version: "v1", resource: "services", subresources: []string{"proxy", "status"}},
	{version: "v1", resource: "nodes", clusterScoped: true, subresources: []string{"proxy", "status"}},
	{version: "v1", resource: "secrets"},
	{version: "v1", resource: "configmaps"},
	{version: "v1", resource: "events"},
	{version: "v1", resource: "serviceaccounts", subresources: []string{"token"}},
	{version: "v1", resource: "persistentvolumes", clusterScoped: true, subresources: []string{"status"}},
	{group: "apps", version: "v1", resource: "deployments", subresources: []string{"scale", "status"}},
	{group: "apps", version: "v1beta2", resource: "statefulsets", subresources: []string{"scale"}},
	{group: "rbac.authorization.k8s.io", version: "v1", resource: "clusterrolebindings", clusterScoped: true},
	{group: "rbac.authorization.k8s.io", version: "v1", resource: "roles"},
	{group: "coordination.k8s.io", version: "v1", resource: "leases"},
	{group: "certificates.k8s.io", version: "v1", resource: "certificatesigningrequests", clusterScoped: true, subresources: []string{"approval", "status"}},
	{group: "metrics.k8s.io", version: "v1beta1", resource: "pods"},
	{group: "metrics.k8s.io", version: "v1beta1", resource: "nodes", clusterScoped: true},
	{group: "custom.metrics.k8s.io", version: "v1beta2", resource: "metrics"},
	{group: "subresources.kubevirt.io", version: "v1", resource: "virtualmachineinstances", subresources: []string{"console", "vnc", "portforward"}},
	{group: "route.openshift.io", version: "v1", resource: "routes", subresources: []string{"custom-host"}},
	{group: "project.openshift.io", version: "v1", resource: "projects", clusterScoped: true},
	{group: "crd.example.com", version: "v1alpha1", resource: "widgets", subresources: []string{"status"}},
	{group: "authorization.k8s.io", version: "v1", resource: "subjectaccessreviews", clusterScoped: true, review: true},
	{group: "authorization.k8s.io", version: "v1", resource: "selfsubjectaccessreviews", clusterScoped: true, review: true},
	{group: "authorization.k8s.io", version: "v1", resource: "selfsubjectrulesreviews", clusterScoped: true, review: true},
	{group: "authorization.k8s.io", version: "v1", resource: "localsubjectaccessreviews", review: true},
	{group: "authentication.k8s.io", version: "v1", resource: "tokenreviews", clusterScoped: true, review: true},
	{group: "authentication.k8s.io", version: "v1", resource: "selfsubjectreviews", clusterScoped: true, review: true},
	{group: "crd.example.com", version: "v1", resource: "tokenreviews"},
}

var (
	paths = []string{
		"/", "/healthz", "/healthz/etcd", "/livez", "/readyz/ping", "/metrics", "/version", "/version/", "/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1",
		"/openapi/v2", "/openapi/v3/apis/apps/v1", "/logs/kube-apiserver.log", "/.well-known/openid-configuration", "/openid/v1/jwks", "/debug/pprof/heap",
		"/oauth/token", "/apiserver-stuff", "/apidocs/v1/pods/x",
	}
	// dry holds for what comes after it: whether the server finds a dry run.
	parameters = []struct {
		text string
		dry  bool
	}{
		{"timeout=32s", false}, {"fieldManager=kubectl", false}, {"pretty", false}, {"limit=500", false}, {"command=ls&command=-l", false}, {"a=<b>&c=%3C", false},
		{"dryRun=All", true}, {"dryRun=All", true}, {"dryRun=", false}, {"xdryRun=All", false}, {"dryrun=All", false}, {"a=dryRun=All", false}, {"x;dryRun=All", false},
		{"container=c", false}, {"dryRun", false}, {"labelSelector=app%3Dweb", false}, {"", false},
	}
	readers = []string{"get", "list", "watch", "head", "options"}
	doors   = []string{"exec", "attach", "portforward", "proxy"}
)

var resolver = genericrequest.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}

// newRequest makes a request and checks that the API server reads it as it was
// meant.
func (g *generator) newRequest(t *testing.T) request {
	var r request
	if g.chance(6) {
		r = g.pathRequest()
	} else {
		r = g.resourceRequest(t)
	}
	u, err := url.ParseRequestURI(r.uri)
	require.NoError(t, err, r.uri)
	require.Equal(t, r.info, g.resolve(t, r.method, u), "%s %s", r.method, r.uri)
	return r
}

func (g *generator) resolve(t *testing.T, method string, u *url.URL) *genericrequest.RequestInfo {
	info, err := resolver.NewRequestInfo(&http.Request{Method: method, URL: u})
	require.NoError(t, err)
	return info
}

func (g *generator) query() (text string, dry bool) {
	var chosen []string
	for range g.IntN(4) {
		parameter := pick(g, parameters)
		chosen = append(chosen, parameter.text)
		dry = dry || parameter.dry
	}
	if len(chosen) == 0 {
		return "", false
	}
	return "?" + strings.Join(chosen, "&"), dry
}

func (g *generator) pathRequest() request {
	path := pick(g, paths)
	query, _ := g.query()
	method := pick(g, []string{"GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "PROPFIND"})
	r := request{method: method, uri: path + query, resource: strings.TrimPrefix(path, "/")}
	u := &url.URL{Path: path, RawQuery: strings.TrimPrefix(query, "?")}
	r.info, _ = resolver.NewRequestInfo(&http.Request{Method: method, URL: u})
	verb := strings.ToLower(method)
	r.name = verb + " " + path
	r.readOnly = slices.Contains(readers, verb)
	return r
}

func (g *generator) resourceRequest(t *testing.T) request {
	k := pick(g, kinds)
	if g.chance(12) {
		return g.namespaceRequest(t)
	}
	method := pick(g, []string{"GET", "GET", "POST", "PUT", "PATCH", "DELETE"})
	var namespace, name, subresource string
	if !k.clusterScoped && !g.chance(6) {
		namespace = g.word()
	}
	if method == "PUT" || method == "PATCH" || method != "POST" && !g.chance(3) {
		name = g.word()
	}
	if len(k.subresources) > 0 && g.chance(2) && (k.clusterScoped || namespace != "") {
		name, subresource = g.word(), pick(g, k.subresources)
	}
	if k.review {
		method, name = pick(g, []string{"POST", "POST", "GET"}), ""
	}
	path := k.root()
	object := path
	// The watch of old stands in the path.
	oldWatch := method == "GET" && subresource == "" && g.chance(15)
	if oldWatch {
		path += "/watch"
	}
	oldProxy := k.resource == "pods" && k.group == "" && name != "" && subresource == "" && !oldWatch && g.chance(4)
	if oldProxy {
		path += "/proxy"
	}
	rest := ""
	if namespace != "" {
		rest += "/namespaces/" + namespace
	}
	rest += "/" + k.resource
	for _, part := range []string{name, subresource} {
		if part != "" {
			rest += "/" + part
		}
	}
	path, object = path+rest, object+rest
	if (oldProxy || subresource == "proxy") && g.chance(2) {
		path += "/" + g.word() + "/exec"
	}
	query, dry := g.query()
	watch := method == "GET" && name == "" && g.chance(3)
	if watch {
		query = strings.Replace(query+"&watch=true", "&", "?", btoi(query == ""))
	}
	r := request{method: method, uri: path + query, resource: strings.TrimPrefix(object, "/")}
	u, err := url.ParseRequestURI(r.uri)
	require.NoError(t, err)
	r.info = g.resolve(t, method, u)
	require.Equal(t, [...]any{true, k.group, k.version, namespace, k.resource, name, subresource},
		[...]any{r.info.IsResourceRequest, r.info.APIGroup, r.info.APIVersion, r.info.Namespace, r.info.Resource, r.info.Name, r.info.Subresource}, r.uri)
	verb := map[string]string{"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]
	switch {
	case oldProxy:
		verb = "proxy"
	case watch || oldWatch:
		verb = "watch"
	case method == "GET" && name == "":
		verb = "list"
	case method == "DELETE" && name == "":
		verb = "deletecollection"
	}
	require.Equal(t, verb, r.info.Verb, r.uri)
	r.name = verb + " " + strings.TrimSuffix(k.resource+"/"+subresource, "/")
	r.body, dry = g.body(t, verb, subresource, dry)
	if k.resource == "serviceaccounts" && subresource == "token" {
		dry = false // the server gives a token in any case
	}
	switch {
	case slices.Contains(doors, subresource) || oldProxy:
	case slices.Contains(readers, verb), k.review && verb == "create", dry:
		r.readOnly = true
	}
	return r
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// namespaceRequest is about a namespace, which is named in two places.
func (g *generator) namespaceRequest(t *testing.T) request {
	name := g.word()
	subresource := pick(g, []string{"", "", "status", "finalize"})
	method := pick(g, []string{"GET", "PUT", "DELETE"})
	path := strings.TrimSuffix("/api/v1/namespaces/"+name+"/"+subresource, "/")
	u, err := url.ParseRequestURI(path)
	require.NoError(t, err)
	r := request{method: method, uri: path, info: g.resolve(t, method, u), resource: path[1:]}
	verb := map[string]string{"GET": "get", "PUT": "update", "DELETE": "delete"}[method]
	r.name = strings.TrimSuffix(verb+" namespaces/"+subresource, "/")
	r.readOnly = method == "GET"
	return r
}

func (k kind) root() string {
	if k.group == "" {
		return "/api/" + k.version
	}
	return "/apis/" + k.group + "/" + k.version
}

// body makes what a request of the verb may carry, and says whether with it the
// request is a dry run.
func (g *generator) body(t *testing.T, verb, subresource string, dry bool) ([]byte, bool) {
	if slices.Contains(readers, verb) || verb == "proxy" || g.chance(2) {
		return nil, dry
	}
	options := metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"}}
	if g.chance(2) {
		options.DryRun = []string{metav1.DryRunAll}
	}
	var body any
	switch {
	case verb == "delete" || verb == "deletecollection":
		body, dry = options, len(options.DryRun) > 0
	case subresource == "eviction" && verb == "create":
		eviction := policyv1.Eviction{TypeMeta: metav1.TypeMeta{Kind: "Eviction", APIVersion: "policy/v1"}}
		if g.chance(2) {
			eviction.DeleteOptions = &options
			dry = dry || len(options.DryRun) > 0
		}
		body = eviction
	case subresource == "eviction":
		return nil, dry
	default:
		body = map[string]any{
			"kind": pick(g, []string{"Pod", "DeleteOptions", "Event", "EventList"}), "verb": "get", "auditID": g.text(), "user": map[string]any{"username": g.text()},
			"dryRun": []string{"All"}, "deleteOptions": options, "items": []any{map[string]any{"auditID": "x", "verb": "y"}}, "log": g.text(), g.word(): []any{nil, 1.5e3, g.text()},
		}
	}
	data, err := json.Marshal(body)
	require.NoError(t, err, fmt.Sprint(body))
	return data, dry
}
