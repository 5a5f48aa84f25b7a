package generate

import (
	"strconv"
)

// scenarioSlots is how finely shares of scenarios can be told.
const scenarioSlots = 1000

// scenarioTable spreads the scenarios over the slots by their shares, roughly
// what a production cluster with a policy that logs bodies of writes shows.
func scenarioTable() (table [scenarioSlots]func(*Generator, *request)) {
	shares := []struct {
		slots int
		build func(*Generator, *request)
	}{
		{110, (*Generator).nodeLease},
		{50, (*Generator).nodeStatus},
		{70, (*Generator).podStatus},
		{35, (*Generator).nodeWatch},
		{25, (*Generator).serviceAccountToken},
		{80, (*Generator).leaderLease},
		{60, (*Generator).controllerUpdate},
		{50, (*Generator).controllerList},
		{40, (*Generator).controllerWatch},
		{25, (*Generator).schedulerBinding},
		{40, (*Generator).podCreate},
		{70, (*Generator).workloadRead},
		{30, (*Generator).accessReview},
		{40, (*Generator).operatorList},
		{80, (*Generator).personRead},
		{40, (*Generator).personApply},
		{25, (*Generator).configMapWrite},
		{12, (*Generator).podExec},
		{14, (*Generator).podLogs},
		{18, (*Generator).secretRead},
		{9, (*Generator).rbacChange},
		{12, (*Generator).deletion},
		{9, (*Generator).impersonated},
		{5, (*Generator).dryRun},
		{20, (*Generator).discovery},
		{16, (*Generator).probe},
		{9, (*Generator).stranger},
		{2, (*Generator).badToken},
		{2, (*Generator).overload},
		{2, (*Generator).serverError},
	}
	slot := 0
	for _, share := range shares {
		for range share.slots {
			table[slot] = share.build
			slot++
		}
	}
	if slot != scenarioSlots {
		panic("generate: shares of scenarios are " + strconv.Itoa(slot) + " of " + strconv.Itoa(scenarioSlots))
	}
	return table
}

// by says who makes the request, from where and with what.
func (g *Generator) by(q *request, who *identity) {
	q.who = who
	q.addresses = pick(&g.random, who.addresses)
	q.agent = pick(&g.random, who.agents)
}

func (g *Generator) person(q *request) (namespace string) {
	who := pick(&g.random, g.cluster.people)
	if g.random.perMille(40) {
		who = g.cluster.admin
	}
	g.by(q, who)
	// Few people make most requests.
	if g.random.perMille(500) {
		g.by(q, g.cluster.people[g.random.below(8)])
	}
	return pick(&g.random, q.who.namespaces)
}

func (g *Generator) node(q *request) *node {
	n := pick(&g.random, g.cluster.nodes)
	g.by(q, n.identity)
	return n
}

func (g *Generator) workload() *workload { return pick(&g.random, g.cluster.workloads) }

// in is a workload of the namespace, or one of any when it has none.
func (g *Generator) in(namespace string) *workload {
	w := g.workload()
	for range 8 {
		if w.namespace == namespace {
			break
		}
		w = g.workload()
	}
	return w
}

func core(resource, namespace, name string) objectRef {
	return objectRef{version: "v1", resource: resource, namespace: namespace, name: name}
}

func named(group, resource, namespace, name string) objectRef {
	return objectRef{group: group, version: "v1", resource: resource, namespace: namespace, name: name}
}

// deny makes the request one that RBAC refuses.
func (q *request) deny() {
	q.code, q.decision = 403, "forbid"
	verb, resource := q.verb, q.object.resource
	if q.object.subresource != "" {
		resource += "/" + q.object.subresource
	}
	message := resource
	if q.object.group != "" {
		message += "." + q.object.group
	}
	if q.object.name != "" {
		message += ` "` + q.object.name + `"`
	}
	message += ` is forbidden: User "` + q.who.name + `" cannot ` + verb + ` resource "` + resource + `" in API group "` + q.object.group + `"`
	if q.object.namespace != "" {
		message += ` in the namespace "` + q.object.namespace + `"`
	} else {
		message += " at the cluster scope"
	}
	q.failure = failure{"Forbidden", message}
	q.level, q.body = levelMetadata, nil
}

// missing makes it one for an object that isn't there.
func (q *request) missing() {
	q.code = 404
	q.failure = failure{"NotFound", q.object.resource + ` "` + q.object.name + `" not found`}
	q.body = nil
}

// conflict makes it an update of a version that is no longer the newest.
func (q *request) conflict() {
	q.code = 409
	q.failure = failure{"Conflict", `Operation cannot be fulfilled on ` + q.object.resource + ` "` + q.object.name +
		`": the object has been modified; please apply your changes to the latest version and try again`}
}

// watch makes it a watch of some minutes, logged when it starts and when it ends.
func (g *Generator) watch(q *request) {
	q.verb = "watch"
	seconds := 300 + g.random.below(300)
	q.query = "allowWatchBookmarks=true&resourceVersion=" + strconv.FormatUint(q.version-uint64(1+g.random.below(5000)), 10) +
		"&timeoutSeconds=" + strconv.Itoa(seconds) + "&watch=true"
	q.latency = int64(seconds)*1e6 + int64(g.random.below(2e6))
	q.logStarted = true
}
