package audit

import "strings"

// target is what a request is about: an object, a collection, or, when resource
// is empty, a path.
type target struct {
	group, version, namespace string
	resource, name            string
	subresource               string
	path                      string // of the request, without query
	proxied                   bool   // by the path alone: /api/v1/proxy/…
}

// target takes the request's object from objectRef, and from the path what the
// event leaves out.
func (e *auditEvent) target() target {
	path, _, _ := strings.Cut(e.requestURI, "?")
	o := &e.object
	if o.resource == "" {
		t := targetOfPath(path)
		t.path = path
		return t
	}
	t := target{
		group: o.apiGroup, version: o.apiVersion, namespace: o.namespace,
		resource: o.resource, name: o.name, subresource: o.subresource, path: path,
	}
	// v1alpha1 has group and version in one, "/v1" for core.
	if slash := strings.IndexByte(t.version, '/'); slash >= 0 {
		if t.group == "" {
			t.group = t.version[:slash]
		}
		t.version = t.version[slash+1:]
	}
	if t.version == "" {
		if p := targetOfPath(path); p.resource == t.resource && (t.group == "" || p.group == t.group) {
			t.group, t.version = p.group, p.version
		}
	}
	if t.version == "" && t.group == "" {
		t.version = "v1" // the core group has no other
	}
	return t
}

// targetOfPath reads a path as the API server does. A path that is no
// resource's (/healthz, /apis/apps/v1) gives an empty target.
func targetOfPath(path string) (t target) {
	rest, found := strings.CutPrefix(path, "/")
	if !found {
		return target{}
	}
	root, rest := segment(rest)
	switch root {
	case "api":
	case "apis":
		t.group, rest = segment(rest)
	default:
		return target{}
	}
	t.version, rest = segment(rest)
	first, after := segment(rest)
	t.proxied = first == "proxy"
	if first == "watch" || t.proxied { // forms of old
		rest = after
		first, after = segment(rest)
	}
	if first == "namespaces" {
		namespace, inside := segment(after)
		t.namespace = namespace
		if inner, _ := segment(inside); namespace != "" && inner != "" && inner != "status" && inner != "finalize" {
			rest = inside
		}
	}
	t.resource, rest = segment(rest)
	t.name, rest = segment(rest)
	if !t.proxied { // what follows is then a path of the object's own
		t.subresource, _ = segment(rest)
	}
	if t.version == "" || t.resource == "" {
		return target{}
	}
	return t
}

func segment(path string) (first, rest string) {
	first, rest, _ = strings.Cut(path, "/")
	return first, rest
}

// appendPath writes the object as a path of the API, without leading slash.
func (t *target) appendPath(dst []byte) []byte {
	if t.resource == "" {
		return append(dst, strings.TrimPrefix(t.path, "/")...)
	}
	if t.group == "" {
		dst = append(dst, "api"...)
	} else {
		dst = append(append(dst, "apis/"...), t.group...)
	}
	if t.version != "" {
		dst = append(append(dst, '/'), t.version...)
	}
	name := t.name
	if t.isNamespace() {
		// A namespace is in itself, but its path is that of a cluster's object.
		if name == "" {
			name = t.namespace
		}
	} else if t.namespace != "" {
		dst = append(append(dst, "/namespaces/"...), t.namespace...)
	}
	dst = append(append(dst, '/'), t.resource...)
	if name != "" || t.subresource != "" {
		dst = append(append(dst, '/'), name...)
	}
	if t.subresource != "" {
		dst = append(append(dst, '/'), t.subresource...)
	}
	return dst
}

func (t *target) isNamespace() bool { return t.group == "" && t.resource == "namespaces" }

// appendName writes verb and resource as RBAC says them, or verb and path.
func (t *target) appendName(dst []byte, verb string) []byte {
	dst = append(dst, verb...)
	what := t.resource
	if what == "" {
		what = t.path
	}
	if what == "" {
		return dst
	}
	if verb != "" {
		dst = append(dst, ' ')
	}
	dst = append(dst, what...)
	if t.resource != "" && t.subresource != "" {
		dst = append(append(dst, '/'), t.subresource...)
	}
	return dst
}

// readOnly says whether a request changes nothing in the cluster.
func (t *target) readOnly(e *auditEvent) bool {
	switch t.subresource {
	case "exec", "attach", "portforward", "proxy":
		// A door into a container or a node, also when opened with a GET.
		return false
	}
	if t.proxied || e.verb == "proxy" {
		return false
	}
	switch e.verb {
	case "get", "list", "watch", "head", "options":
		return true
	case "create":
		if t.isReview() {
			return true
		}
	case "GET", "HEAD", "OPTIONS":
		return true
	}
	return t.isDryRun(e)
}

// isDryRun says whether the API server took a request for a dry run. Everything
// of a request is the client's to choose, so this follows what the server reads:
// whoever adds "dryRun" where it means nothing must not hide a change by it.
func (t *target) isDryRun(e *auditEvent) bool {
	switch e.verb {
	case "create", "update", "patch", "delete", "deletecollection":
	default:
		return false
	}
	switch {
	case t.resource == "":
		return false // the parameter is one of resources
	case t.resource == "serviceaccounts" && t.subresource == "token":
		return false // hands out a token all the same
	case (e.verb == "delete" || e.verb == "deletecollection") && e.body.present:
		return e.body.dryRun // a body takes the place of the parameters
	case t.subresource == "eviction" && e.body.deleteOptions:
		return true
	}
	return hasDryRun(e.requestURI)
}

// isReview knows the requests that are questions in the form of an object.
func (t *target) isReview() bool {
	if t.subresource != "" {
		return false
	}
	switch t.group {
	case "", "authorization.k8s.io", "authentication.k8s.io", "authorization.openshift.io", "security.openshift.io":
	default:
		return false
	}
	switch t.resource {
	case "subjectaccessreviews", "localsubjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews",
		"tokenreviews", "selfsubjectreviews":
		return true
	case "resourceaccessreviews", "localresourceaccessreviews", "subjectrulesreviews",
		"podsecuritypolicyreviews", "podsecuritypolicysubjectreviews", "podsecuritypolicyselfsubjectreviews":
		return true // OpenShift's
	}
	return false
}

// hasDryRun looks for the parameter dryRun with a value.
func hasDryRun(uri string) bool {
	const name = "dryRun="
	_, query, _ := strings.Cut(uri, "?")
	for {
		at := strings.Index(query, name)
		if at < 0 {
			return false
		}
		starts := at == 0 || query[at-1] == '&'
		query = query[at+len(name):]
		if starts && query != "" && query[0] != '&' {
			return true
		}
	}
}
