package generate

import (
	"fmt"
	"strconv"
	"strings"
)

// cluster is who and what there is: made once, drawn from for every request.
type cluster struct {
	people      []*identity
	admin       *identity // a client certificate in system:masters
	controllers []*identity
	scheduler   *identity
	apiserver   *identity
	operators   []*identity // service accounts that act on the whole cluster
	anonymous   *identity
	nobody      *identity // failed authentication: no user at all
	nodes       []*node
	workloads   []*workload
	namespaces  []string
	secrets     []string
	roles       []string
}

// identity is who makes requests. user and the addresses are rendered JSON.
type identity struct {
	name       string
	user       []byte
	subject    string // as RBAC's reasons name it
	role       string // the cluster role that allows what it does
	addresses  []string
	agents     []string
	namespaces []string // where a person works
}

type node struct {
	*identity
	host string
}

// workload is a Deployment with its pods.
type workload struct {
	namespace, name, image string
	uid                    string
	hash                   string // of its ReplicaSet
	account                *identity
	pods                   []pod
	port                   int
	replicas               int
}

type pod struct {
	name, uid, ip string
	node          *node
}

func newCluster(r *random) *cluster {
	c := &cluster{
		namespaces: []string{
			"kube-system", "ingress", "monitoring", "logging", "cert-manager", "argocd", "vault",
			"payments", "checkout", "catalog", "search", "accounts", "notifications", "billing", "reporting",
			"data-pipelines", "feature-flags", "web", "mobile-api", "fraud-detection", "staging", "sandbox",
		},
		secrets: []string{
			"database-credentials", "tls-wildcard", "registry-pull", "payment-provider-key", "oauth-client",
			"session-signing-key", "smtp-relay", "backup-encryption", "webhook-token", "object-store-keys",
		},
		roles: []string{"deployer", "pod-reader", "config-editor", "debugger", "secret-reader", "namespace-owner"},
	}
	c.addNodes()
	c.addPeople(r)
	c.addSystem(r)
	c.addWorkloads(r)
	return c
}

func (c *cluster) addNodes() {
	for i := range 24 {
		address := fmt.Sprintf("10.0.%d.%d", 16+i/8, 10+i*9)
		host := "ip-" + strings.ReplaceAll(address, ".", "-") + ".eu-central-1.compute.internal"
		c.nodes = append(c.nodes, &node{host: host, identity: &identity{
			name:      "system:node:" + host,
			user:      renderUser("system:node:"+host, "", []string{"system:nodes", "system:authenticated"}, nil),
			subject:   "",
			addresses: []string{`["` + address + `"]`},
			agents:    []string{"kubelet/v1.33.4 (linux/amd64) kubernetes/74cdb42"},
		}})
	}
}

var people = []string{
	"amara.okafor", "ben.lindqvist", "carla.mendes", "daniel.kovacs", "elif.yildiz", "farah.haddad", "george.papadakis",
	"hana.sato", "ines.moreau", "jakub.nowak", "kavya.raman", "liam.obrien", "mei.chen", "nadia.petrova", "omar.farouk",
	"priya.nair", "quentin.dubois", "rosa.castillo", "sven.johansson", "tomoko.ito", "uma.shankar", "viktor.hansen",
	"wanjiru.kamau", "xavier.roca", "yusuf.demir", "zoë.müller", "anders.berg", "beatriz.alves", "chidi.eze", "dmitri.volkov",
	"emma.vandijk", "felipe.souza", "greta.schmidt", "hugo.bernard", "isla.macleod", "jorge.ramos", "kenji.tanaka", "laila.aziz",
}

var teams = []string{
	"platform-engineers", "sre-oncall", "payments-developers", "search-developers", "data-engineers", "security-auditors",
	"frontend-developers", "contractors",
}

// addPeople gives everyone a team, one to three networks to come from and tools.
func (c *cluster) addPeople(r *random) {
	kubectl := []string{
		"kubectl/v1.33.2 (darwin/arm64) kubernetes/a57b6f7", "kubectl/v1.32.6 (linux/amd64) kubernetes/cff1ae1",
		"kubectl/v1.31.1 (windows/amd64) kubernetes/948afe5", "kubectl1.30.4/v1.30.4 (linux/amd64) kubernetes/a51b3b7",
		"k9s/v0.50.9 (darwin/arm64) kubernetes/$Format", "Helm/3.18.4", "OpenLens/6.5.2-366 Chrome/126.0.6478.234 Electron/31.7.7",
		"Terraform/1.12.2 (+https://www.terraform.io) terraform-provider-kubernetes/2.38.0", "python-requests/2.32.4",
	}
	for i, name := range people {
		team := teams[i%len(teams)]
		groups := []string{team, "system:authenticated"}
		if r.perMille(250) {
			groups = []string{team, pick(r, teams), "employees", "system:authenticated"}
		}
		username := name + "@example.com"
		switch i % 9 {
		case 3:
			username = "oidc:" + username
		case 7:
			username = name // a certificate's common name
		}
		person := &identity{name: username, subject: `Group "` + team + `"`, role: "team-" + team}
		extra := []extraValue{{"authentication.kubernetes.io/credential-id", "JTI=" + r.uuid()}}
		person.user = renderUser(username, r.uuid(), groups, extra)
		for range 1 + r.below(3) {
			person.addresses = append(person.addresses, renderAddress(r))
		}
		person.agents = []string{kubectl[i%len(kubectl)], pick(r, kubectl)}
		for range 2 + r.below(4) {
			person.namespaces = append(person.namespaces, c.namespaces[7+r.below(len(c.namespaces)-7)])
		}
		c.people = append(c.people, person)
	}
	c.admin = &identity{
		name: "kubernetes-admin", role: "cluster-admin", subject: `Group "system:masters"`,
		user:      renderUser("kubernetes-admin", "", []string{"system:masters", "system:authenticated"}, nil),
		addresses: []string{`["198.51.100.17"]`, `["10.0.0.4"]`},
		agents:    []string{kubectl[1]}, namespaces: c.namespaces,
	}
}

// renderAddress is the sourceIPs of one network: mostly one public address, at
// times with a forged or inner one before it.
func renderAddress(r *random) string {
	public := publicAddress(r)
	switch r.below(12) {
	case 0:
		return `["10.8.0.` + strconv.Itoa(2+r.below(250)) + `","` + public + `"]`
	case 1:
		return `["2001:db8:` + strconv.Itoa(1+r.below(4)) + `::` + strconv.FormatInt(int64(1+r.below(0xffff)), 16) + `"]`
	}
	return `["` + public + `"]`
}

func publicAddress(r *random) string {
	return pick(r, []string{"192.0.2.", "198.51.100.", "203.0.113."}) + strconv.Itoa(1+r.below(190))
}

func (c *cluster) addSystem(r *random) {
	controlPlane := []string{`["10.0.0.4"]`, `["10.0.0.5"]`, `["10.0.0.6"]`}
	for _, name := range []string{
		"deployment-controller", "replicaset-controller", "endpointslice-controller", "job-controller", "cronjob-controller",
		"generic-garbage-collector", "namespace-controller", "horizontal-pod-autoscaler", "node-controller", "service-account-controller",
	} {
		account := newServiceAccount(r, "kube-system", name, nil)
		account.role = "system:controller:" + name
		account.addresses = controlPlane
		account.agents = []string{"kube-controller-manager/v1.33.4 (linux/amd64) kubernetes/74cdb42/system:serviceaccount:kube-system:" + name}
		c.controllers = append(c.controllers, account)
	}
	system := func(name string, groups ...string) *identity {
		return &identity{
			name: name, user: renderUser(name, "", append(groups, "system:authenticated"), nil), role: name,
			subject: `User "` + name + `"`, addresses: controlPlane,
		}
	}
	c.scheduler = system("system:kube-scheduler")
	c.scheduler.agents = []string{"kube-scheduler/v1.33.4 (linux/amd64) kubernetes/74cdb42/scheduler"}
	manager := system("system:kube-controller-manager")
	manager.agents = []string{"kube-controller-manager/v1.33.4 (linux/amd64) kubernetes/74cdb42/leader-election"}
	c.controllers = append(c.controllers, manager)
	c.apiserver = system("system:apiserver", "system:masters")
	c.apiserver.addresses = []string{`["::1"]`}
	c.apiserver.agents = []string{"kube-apiserver/v1.33.4 (linux/amd64) kubernetes/74cdb42"}

	c.anonymous = &identity{name: "system:anonymous", user: renderUser("system:anonymous", "", []string{"system:unauthenticated"}, nil)}
	c.nobody = &identity{user: []byte(`{}`)}
	scanners := []string{"curl/8.14.1", "Go-http-client/2.0", "python-urllib3/2.5.0", "Mozilla/5.0 (compatible; ExampleScanner/1.3)", "kube-probe/1.33"}
	for _, stranger := range []*identity{c.anonymous, c.nobody} {
		stranger.agents = scanners
		for range 12 {
			stranger.addresses = append(stranger.addresses, `["203.0.113.`+strconv.Itoa(160+r.below(95))+`"]`)
		}
		stranger.addresses = append(stranger.addresses, `["2001:db8:ff::`+strconv.FormatInt(int64(1+r.below(0xffff)), 16)+`"]`, `["192.0.2.201"]`)
	}

	for _, operator := range [][2]string{
		{"argocd", "argocd-application-controller"}, {"cert-manager", "cert-manager"}, {"monitoring", "prometheus-k8s"},
		{"monitoring", "kube-state-metrics"}, {"vault", "vault-injector"}, {"ingress", "ingress-controller"}, {"logging", "fluent-bit"},
	} {
		at := pick(r, c.nodes)
		account := newServiceAccount(r, operator[0], operator[1], &pod{
			name: operator[1] + "-" + r.suffix(9) + "-" + r.suffix(5), uid: r.uuid(), node: at,
		})
		account.role = operator[1]
		account.addresses = []string{`["10.244.` + strconv.Itoa(r.below(24)) + "." + strconv.Itoa(2+r.below(250)) + `"]`}
		account.agents = []string{operator[1] + "/v2.14.1 (linux/amd64) kubernetes/$Format"}
		c.operators = append(c.operators, account)
	}
}

func (c *cluster) addWorkloads(r *random) {
	names := []string{"api", "worker", "web", "gateway", "scheduler", "consumer", "cache", "exporter"}
	for _, namespace := range c.namespaces {
		for i := range 2 + r.below(4) {
			w := &workload{
				namespace: namespace, name: namespace + "-" + names[(i+r.below(2))%len(names)], uid: r.uuid(),
				hash: r.suffix(10), port: 8000 + 10*r.below(90), replicas: 1 + r.below(4),
			}
			w.image = "registry.example.com/" + namespace + "/" + w.name + ":v1." + strconv.Itoa(r.below(40)) + "." + strconv.Itoa(r.below(20))
			for range w.replicas {
				at := r.below(len(c.nodes))
				w.pods = append(w.pods, pod{
					name: w.name + "-" + w.hash + "-" + r.suffix(5), uid: r.uuid(), node: c.nodes[at],
					ip: "10.244." + strconv.Itoa(at) + "." + strconv.Itoa(2+r.below(250)),
				})
			}
			w.account = newServiceAccount(r, namespace, w.name, &w.pods[0])
			w.account.role = w.name + "-runtime"
			w.account.addresses = []string{`["` + w.pods[0].ip + `"]`}
			w.account.agents = []string{w.name + "/v0.0.0 (linux/amd64) kubernetes/$Format"}
			c.workloads = append(c.workloads, w)
		}
	}
}

type extraValue struct{ key, value string }

// newServiceAccount is a service account; with a pod its token is bound to it.
func newServiceAccount(r *random, namespace, name string, at *pod) *identity {
	extra := []extraValue{{"authentication.kubernetes.io/credential-id", "JTI=" + r.uuid()}}
	if at != nil {
		extra = append(extra,
			extraValue{"authentication.kubernetes.io/node-name", at.node.host},
			extraValue{"authentication.kubernetes.io/node-uid", r.uuid()},
			extraValue{"authentication.kubernetes.io/pod-name", at.name},
			extraValue{"authentication.kubernetes.io/pod-uid", at.uid})
	}
	username := "system:serviceaccount:" + namespace + ":" + name
	groups := []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}
	return &identity{
		name: username, user: renderUser(username, r.uuid(), groups, extra),
		subject: `ServiceAccount "` + name + "/" + namespace + `"`, namespaces: []string{namespace},
	}
}

// renderUser is the event's user object.
func renderUser(username, uid string, groups []string, extra []extraValue) []byte {
	dst := appendField([]byte("{"), "username", username)
	if uid != "" {
		dst = appendField(append(dst, ','), "uid", uid)
	}
	dst = append(dst, `,"groups":[`...)
	for i, group := range groups {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, group)
	}
	dst = append(dst, ']')
	for i, value := range extra {
		if i == 0 {
			dst = append(dst, `,"extra":{`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendString(dst, value.key)
		dst = append(dst, ":["...)
		dst = appendString(dst, value.value)
		dst = append(dst, ']')
	}
	if len(extra) > 0 {
		dst = append(dst, '}')
	}
	return append(dst, '}')
}
