package generate

import "strconv"

// What the cluster does by itself: nodes, controllers, service accounts.

func (g *Generator) nodeLease(q *request) {
	n := g.node(q)
	q.verb = "update"
	if g.random.perMille(200) {
		q.verb = "get"
	}
	q.object = named("coordination.k8s.io", "leases", "kube-node-lease", n.host)
	q.query = "timeout=10s"
	if q.verb == "update" && g.random.perMille(15) {
		q.conflict()
	}
}

func (g *Generator) nodeStatus(q *request) {
	n := g.node(q)
	q.verb = "patch"
	q.object = core("nodes", "", n.host)
	q.object.subresource = "status"
	q.query = "timeout=10s"
}

func (g *Generator) podStatus(q *request) {
	n := g.node(q)
	w := g.workload()
	p := pick(&g.random, w.pods)
	q.workload = w
	q.verb = "patch"
	q.object = core("pods", w.namespace, p.name)
	q.object.subresource = "status"
	q.level, q.body = levelRequest, appendPodStatusPatch
	switch {
	case p.node != n && g.random.perMille(20):
		q.deny() // the node authorizer: not its pod
	case g.random.perMille(20):
		q.missing()
	}
}

func (g *Generator) nodeWatch(q *request) {
	g.node(q)
	w := g.workload()
	if g.random.perMille(500) {
		q.object = core("configmaps", w.namespace, "app-config")
	} else {
		q.object = core("secrets", w.namespace, pick(&g.random, g.cluster.secrets))
	}
	g.watch(q)
	q.query = "fieldSelector=metadata.name%3D" + q.object.name + "&" + q.query
}

func (g *Generator) serviceAccountToken(q *request) {
	g.node(q)
	w := g.workload()
	q.verb = "create"
	q.object = core("serviceaccounts", w.namespace, w.name)
	q.object.subresource = "token"
	q.code = 201
	q.logReceived = g.random.perMille(150)
}

func (g *Generator) leaderLease(q *request) {
	if g.random.perMille(600) {
		who := pick(&g.random, g.cluster.controllers)
		g.by(q, who)
		q.object = named("coordination.k8s.io", "leases", "kube-system", "kube-controller-manager")
	} else {
		g.by(q, pick(&g.random, g.cluster.operators))
		q.object = named("coordination.k8s.io", "leases", q.who.namespaces[0], q.who.role+"-leader")
	}
	q.verb = "get"
	if g.random.perMille(500) {
		q.verb = "update"
		if g.random.perMille(30) {
			q.conflict()
		}
	}
}

func (g *Generator) controllerUpdate(q *request) {
	w := g.workload()
	q.workload = w
	q.verb = "update"
	if g.random.perMille(350) {
		g.by(q, g.cluster.controllers[2]) // endpointslice-controller
		q.object = named("discovery.k8s.io", "endpointslices", w.namespace, w.name+"-"+w.hash[:5])
		return
	}
	g.by(q, g.cluster.controllers[0]) // deployment-controller
	q.object = named("apps", "deployments", w.namespace, w.name)
	q.object.subresource = "status"
	q.level, q.body = levelRequestResponse, appendDeployment
	if g.random.perMille(60) {
		q.conflict()
	}
}

func (g *Generator) controllerList(q *request) {
	g.by(q, pick(&g.random, g.cluster.controllers))
	q.verb = "list"
	q.object = g.listed()
	q.query = "limit=500&resourceVersion=0"
}

func (g *Generator) controllerWatch(q *request) {
	if g.random.perMille(500) {
		g.by(q, g.cluster.scheduler)
	} else {
		g.by(q, pick(&g.random, g.cluster.controllers))
	}
	q.object = g.listed()
	g.watch(q)
}

// listed is a kind of object in the whole cluster.
func (g *Generator) listed() objectRef {
	return pick(&g.random, []objectRef{
		core("pods", "", ""), core("services", "", ""), core("nodes", "", ""), core("configmaps", "", ""), core("namespaces", "", ""),
		named("apps", "deployments", "", ""), named("apps", "replicasets", "", ""), named("batch", "jobs", "", ""),
		named("networking.k8s.io", "ingresses", "", ""), named("discovery.k8s.io", "endpointslices", "", ""),
		named("cert-manager.io", "certificates", "", ""), named("monitoring.coreos.com", "servicemonitors", "", ""),
	})
}

func (g *Generator) schedulerBinding(q *request) {
	g.by(q, g.cluster.scheduler)
	w := g.workload()
	q.verb = "create"
	q.object = core("pods", w.namespace, pick(&g.random, w.pods).name)
	q.object.subresource = "binding"
	q.code = 201
}

func (g *Generator) podCreate(q *request) {
	g.by(q, g.cluster.controllers[1]) // replicaset-controller
	w := g.workload()
	q.workload = w
	q.verb = "create"
	q.object = core("pods", w.namespace, w.name+"-"+w.hash+"-"+g.random.suffix(5))
	q.code = 201
	q.level, q.body = levelRequestResponse, appendPod
	q.podSecurity = "baseline:latest"
	switch {
	case g.random.perMille(60):
		q.violations = `would violate PodSecurity "restricted:latest": unrestricted capabilities (container "` + w.name + `" must set securityContext.capabilities.drop=["ALL"])`
	case g.random.perMille(25):
		q.code = 403
		q.failure = failure{"Forbidden", `pods "` + q.object.name + `" is forbidden: exceeded quota: ` + w.namespace + `-compute, requested: limits.memory=512Mi, used: limits.memory=16Gi, limited: limits.memory=16Gi`}
	}
	q.logReceived = g.random.perMille(150)
}

func (g *Generator) workloadRead(q *request) {
	w := g.workload()
	g.by(q, w.account)
	q.verb = "get"
	switch g.random.below(4) {
	case 0:
		q.object = core("configmaps", w.namespace, "app-config")
	case 1:
		q.object = core("endpoints", w.namespace, w.name)
	case 2:
		q.verb = "list"
		q.object = core("pods", w.namespace, "")
		q.query = "labelSelector=app.kubernetes.io%2Fname%3D" + w.name
	default:
		q.object = core("secrets", w.namespace, pick(&g.random, g.cluster.secrets))
	}
	switch {
	case g.random.perMille(25):
		if other := g.workload(); other.namespace != w.namespace {
			q.object.namespace = other.namespace
		}
		q.deny()
	case q.verb == "get" && g.random.perMille(30):
		q.missing()
	}
}

func (g *Generator) accessReview(q *request) {
	g.by(q, pick(&g.random, g.cluster.operators))
	q.workload = g.workload()
	q.verb = "create"
	q.code = 201
	if g.random.perMille(500) {
		q.object = named("authentication.k8s.io", "tokenreviews", "", "")
		return
	}
	q.object = named("authorization.k8s.io", "subjectaccessreviews", "", "")
	q.level, q.body = levelRequestResponse, appendSubjectAccessReview
}

func (g *Generator) operatorList(q *request) {
	g.by(q, pick(&g.random, g.cluster.operators))
	q.object = g.listed()
	if g.random.perMille(300) {
		g.watch(q)
		return
	}
	q.verb = "list"
	q.query = "limit=" + strconv.Itoa(100*(1+g.random.below(5)))
}

func (g *Generator) probe(q *request) {
	if g.random.perMille(500) {
		g.by(q, g.cluster.apiserver)
	} else {
		g.by(q, g.cluster.operators[2]) // prometheus
	}
	q.verb = "get"
	q.path = pick(&g.random, []string{"/readyz", "/livez", "/healthz", "/metrics", "/metrics/slis"})
	if g.random.perMille(100) {
		q.query = "verbose"
	}
}

// overload: priority and fairness turns a request away.
func (g *Generator) overload(q *request) {
	w := g.workload()
	g.by(q, w.account)
	q.verb = "list"
	q.object = core("pods", w.namespace, "")
	q.code = 429
	q.failure = failure{"TooManyRequests", "too many requests, please try again later"}
}

// serverError: etcd is slow, or a handler panics.
func (g *Generator) serverError(q *request) {
	g.by(q, pick(&g.random, g.cluster.controllers))
	w := g.workload()
	q.verb = "update"
	q.object = named("apps", "replicasets", w.namespace, w.name+"-"+w.hash)
	q.code = 500
	q.failure = failure{"InternalError", "Internal error occurred: etcdserver: request timed out"}
	q.latency = 7e6 + int64(g.random.below(3e6))
	if g.random.perMille(300) {
		q.panics = true
		q.failure.message = "APIServer panic'd: runtime error: invalid memory address or nil pointer dereference"
	}
}
