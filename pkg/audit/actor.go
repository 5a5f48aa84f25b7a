package audit

import (
	"strings"

	"github.com/auditstream/auditstream/pkg/event"
)

// Types of an actor.
const (
	actorUser           = "user"
	actorServiceAccount = "serviceaccount"
	actorNode           = "node"
	actorAnonymous      = "anonymous"
	actorSystem         = "system"
)

const (
	serviceAccountPrefix = "system:serviceaccount:"
	nodePrefix           = "system:node:"
	anonymousUser        = "system:anonymous"
	unauthenticatedGroup = "system:unauthenticated"
	nodesGroup           = "system:nodes"
)

// actor adds what the column `actor` says. A key without a value is left out.
func (n *Normalizer) actor(e *auditEvent, into event.Map) event.Map {
	user := &e.user
	into = addPair(into, "username", user.username)
	into = addPair(into, "uid", user.uid)
	into = addPair(into, "groups", n.arena.list(user.groups))
	into = addPair(into, "type", actorType(e))
	if isEmail(user.username) {
		into = addPair(into, "email", user.username)
	}
	if namespace, name, ok := serviceAccount(user.username); ok {
		into = addPair(into, "namespace", namespace)
		into = addPair(into, "serviceAccount", name)
	}
	into = addPair(into, "impersonatedUsername", e.impersonated.username)
	into = addPair(into, "impersonatedUID", e.impersonated.uid)
	into = addPair(into, "impersonatedGroups", n.arena.list(e.impersonated.groups))
	for _, extra := range user.extra.list {
		into = append(into, event.Pair{Key: n.arena.join("extra.", extra.Key), Value: extra.Value})
	}
	return into
}

func addPair(into event.Map, key, value string) event.Map {
	if value == "" {
		return into
	}
	return append(into, event.Pair{Key: key, Value: value})
}

// actorType sorts the user. An empty one has a type only when the event says
// that nobody was authenticated: then the API server answers 401.
func actorType(e *auditEvent) string {
	name := e.user.username
	switch {
	case name == anonymousUser || contains(e.user.groups, unauthenticatedGroup):
		return actorAnonymous
	case name == "":
		if e.responseCode == 401 {
			return actorAnonymous
		}
		return ""
	}
	if _, _, ok := serviceAccount(name); ok {
		return actorServiceAccount
	}
	switch {
	case hasPrefix(name, nodePrefix) || contains(e.user.groups, nodesGroup):
		return actorNode
	case hasPrefix(name, "system:") || isProviderSystem(name):
		return actorSystem
	}
	return actorUser
}

// isProviderSystem knows the names under which a cloud's own control plane
// works: EKS (eks:node-manager and many more) and AKS.
func isProviderSystem(name string) bool {
	return hasPrefix(name, "eks:") || name == "aksService"
}

func serviceAccount(username string) (namespace, name string, ok bool) {
	if !hasPrefix(username, serviceAccountPrefix) {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(username[len(serviceAccountPrefix):], ":")
	return namespace, name, ok && namespace != "" && name != "" && strings.IndexByte(name, ':') < 0
}

// isEmail says whether a user name is an address as identity providers give
// them; it is no check of RFC 5322.
func isEmail(name string) bool {
	at := strings.IndexByte(name, '@')
	if at <= 0 || at == len(name)-1 || len(name) > 320 {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c <= ' ', c == 0x7f, i != at && c == '@':
			return false
		case c == ':' || c == '/' || c == '<' || c == '>' || c == ',' || c == ';' || c == '"' || c == '\\':
			return false
		}
	}
	domain := name[at+1:]
	dot := strings.IndexByte(domain, '.')
	return dot > 0 && domain[len(domain)-1] != '.' && !strings.Contains(domain, "..")
}

func contains(texts []string, text string) bool {
	for _, t := range texts {
		if t == text {
			return true
		}
	}
	return false
}
