package generate

import "strconv"

// Bodies are requestObject and responseObject of what is logged at Request and
// RequestResponse. They are rendered from the request alone, so that every
// stage of a request shows the same.

// appendMeta appends `"metadata":{…` without the closing brace. A response's has
// what the server adds.
func appendMeta(dst []byte, q *request, response bool) []byte {
	dst = appendField(append(dst, `"metadata":{`...), "name", q.object.name)
	if q.object.namespace != "" {
		dst = appendField(append(dst, ','), "namespace", q.object.namespace)
	}
	if !response {
		return append(dst, `,"creationTimestamp":null`...)
	}
	dst = append(dst, `,"uid":"`...)
	var id [16]byte
	for i := range id {
		id[i] = byte(q.mix >> (i % 8 * 8)) //nolint:gosec // a byte
	}
	dst = appendUUID(dst, id)
	dst = append(dst, `","resourceVersion":"`...)
	dst = strconv.AppendUint(dst, q.version, 10)
	dst = append(dst, `","generation":`...)
	dst = strconv.AppendInt(dst, 1+q.mix2(60), 10)
	dst = append(dst, `,"creationTimestamp":"2025-11-17T09:12:44Z","managedFields":[{"manager":`...)
	manager := q.agent
	for i := range manager {
		if manager[i] == '/' {
			manager = manager[:i]
			break
		}
	}
	dst = appendString(dst, manager)
	dst = append(dst, `,"operation":"Update","apiVersion":"`...)
	if q.object.group != "" {
		dst = append(append(dst, q.object.group...), '/')
	}
	dst = append(append(dst, q.object.version...), `","time":"`...)
	dst = appendMicros(dst, q.received)
	dst = append(dst[:len(dst)-8], 'Z') // whole seconds
	return append(dst, `","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:checksum/config":{}},"f:labels":{".":{},"f:app.kubernetes.io/name":{}}},"f:spec":{"f:replicas":{},"f:template":{}}}}]`...)
}

func appendLabels(dst []byte, w *workload) []byte {
	dst = append(dst, `"labels":{"app.kubernetes.io/name":"`...)
	dst = append(dst, w.name...)
	dst = append(dst, `","app.kubernetes.io/part-of":"`...)
	dst = append(dst, w.namespace...)
	return append(dst, `","app.kubernetes.io/managed-by":"Helm"}`...)
}

func appendPodSpec(dst []byte, w *workload) []byte {
	dst = append(dst, `{"serviceAccountName":"`...)
	dst = append(dst, w.name...)
	dst = append(dst, `","containers":[{"name":"`...)
	dst = append(dst, w.name...)
	dst = append(dst, `","image":"`...)
	dst = append(dst, w.image...)
	dst = append(dst, `","ports":[{"name":"http","containerPort":`...)
	dst = strconv.AppendInt(dst, int64(w.port), 10)
	dst = append(dst, `,"protocol":"TCP"}],"env":[{"name":"LOG_LEVEL","value":"info"},{"name":"POD_NAME","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}},`...)
	dst = append(dst, `{"name":"DATABASE_URL","valueFrom":{"secretKeyRef":{"name":"database-credentials","key":"url"}}}],"resources":{"limits":{"memory":"512Mi"},"requests":{"cpu":"100m","memory":"256Mi"}},`...)
	dst = append(dst, `"volumeMounts":[{"name":"config","mountPath":"/etc/app"}],"livenessProbe":{"httpGet":{"path":"/healthz","port":"http","scheme":"HTTP"},"timeoutSeconds":2,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},`...)
	dst = append(dst, `"readinessProbe":{"httpGet":{"path":"/readyz","port":"http","scheme":"HTTP"},"timeoutSeconds":2,"periodSeconds":5,"successThreshold":1,"failureThreshold":3},"imagePullPolicy":"IfNotPresent",`...)
	return append(dst, `"securityContext":{"runAsNonRoot":true,"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"seccompProfile":{"type":"RuntimeDefault"}}}],"volumes":[{"name":"config","configMap":{"name":"app-config","defaultMode":420}}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler"}`...)
}

func appendDeployment(dst []byte, q *request, response bool) []byte {
	w := q.workload
	dst = append(dst, `{"kind":"Deployment","apiVersion":"apps/v1",`...)
	dst = appendMeta(dst, q, response)
	dst = append(dst, `,"annotations":{"deployment.kubernetes.io/revision":"`...)
	dst = strconv.AppendInt(dst, 1+q.mix2(90), 10)
	dst = append(dst, `","checksum/config":"`...)
	dst = append(appendHex(dst, q.mix, 64), `"},`...)
	dst = append(appendLabels(dst, w), `},"spec":{"replicas":`...)
	dst = strconv.AppendInt(dst, int64(w.replicas), 10)
	dst = append(dst, `,"selector":{"matchLabels":{"app.kubernetes.io/name":"`...)
	dst = append(dst, w.name...)
	dst = append(dst, `"}},"template":{"metadata":{"creationTimestamp":null,`...)
	dst = append(appendLabels(dst, w), `},"spec":`...)
	dst = appendPodSpec(dst, w)
	dst = append(dst, `},"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"25%","maxSurge":"25%"}},"revisionHistoryLimit":10,"progressDeadlineSeconds":600},"status":{`...)
	if response {
		dst = append(dst, `"observedGeneration":12,"replicas":`...)
		dst = strconv.AppendInt(dst, int64(w.replicas), 10)
		dst = append(dst, `,"conditions":[{"type":"Available","status":"True","reason":"MinimumReplicasAvailable","message":"Deployment has minimum availability."},{"type":"Progressing","status":"True","reason":"NewReplicaSetAvailable","message":"ReplicaSet \"`...)
		dst = append(dst, w.name...)
		dst = append(append(dst, '-'), w.hash...)
		dst = append(dst, `\" has successfully progressed."}]`...)
	}
	return append(dst, `}}`...)
}

// appendDeploymentPatch is an apply's patch on the way in, the deployment on the way out.
func appendDeploymentPatch(dst []byte, q *request, response bool) []byte {
	if response {
		return appendDeployment(dst, q, true)
	}
	dst = append(dst, `{"metadata":{"annotations":{"checksum/config":"`...)
	dst = appendHex(dst, q.mix, 64)
	dst = append(dst, `","kubectl.kubernetes.io/restartedAt":"`...)
	dst = appendMicros(dst, q.received)
	dst = append(dst, `"}},"spec":{"template":{"spec":`...)
	return append(appendPodSpec(dst, q.workload), `}}}`...)
}

func appendPod(dst []byte, q *request, response bool) []byte {
	dst = append(dst, `{"kind":"Pod","apiVersion":"v1",`...)
	dst = append(append(appendMeta(dst, q, response), ','), `"generateName":"`...)
	dst = append(append(dst, q.workload.name...), `-",`...)
	dst = append(appendLabels(dst, q.workload), `},"spec":`...)
	dst = appendPodSpec(dst, q.workload)
	if response {
		dst = append(dst, `,"status":{"phase":"Pending","qosClass":"Burstable"}`...)
	}
	return append(dst, '}')
}

// appendPodStatusPatch is what a kubelet sends when a container's state changes.
func appendPodStatusPatch(dst []byte, q *request, _ bool) []byte {
	dst = append(dst, `{"metadata":{"uid":"`...)
	dst = append(dst, q.workload.uid...)
	dst = append(dst, `"},"status":{"$setElementOrder/conditions":[{"type":"PodReadyToStartContainers"},{"type":"Initialized"},{"type":"Ready"},{"type":"ContainersReady"},{"type":"PodScheduled"}],"conditions":[{"lastTransitionTime":"`...)
	dst = appendMicros(dst, q.received)
	dst = append(dst, `","message":null,"reason":null,"status":"True","type":"Ready"}],"containerStatuses":[{"containerID":"containerd://`...)
	dst = appendHex(dst, q.mix, 64)
	dst = append(dst, `","image":"`...)
	dst = append(dst, q.workload.image...)
	return append(dst, `","lastState":{},"name":"app","ready":true,"restartCount":0,"started":true}],"phase":"Running"}}`...)
}

func appendConfigMap(dst []byte, q *request, response bool) []byte {
	dst = append(dst, `{"kind":"ConfigMap","apiVersion":"v1",`...)
	dst = append(appendMeta(dst, q, response), ',')
	dst = append(appendLabels(dst, q.workload), `},"data":{"application.yaml":"server:\n  port: `...)
	dst = strconv.AppendInt(dst, int64(q.workload.port), 10)
	dst = append(dst, `\n  shutdown: graceful\ndatabase:\n  pool:\n    maximum: `...)
	dst = strconv.AppendInt(dst, 4+q.mix2(60), 10)
	dst = append(dst, `\n    timeout: 30s\nfeatures:\n  - name: \"new-checkout\"\n    enabled: true\n    share: 0.25\n  - name: \"suggestions\"\n    enabled: false\n","greeting.txt":"Grüße, señor — 你好\n","release":"`...)
	return append(appendHex(dst, q.mix, 40), `"}}`...)
}

func appendRoleBinding(dst []byte, q *request, response bool) []byte {
	kind := "RoleBinding"
	if q.object.namespace == "" {
		kind = "ClusterRoleBinding"
	}
	dst = appendField(append(dst, '{'), "kind", kind)
	dst = append(dst, `,"apiVersion":"rbac.authorization.k8s.io/v1",`...)
	dst = append(appendMeta(dst, q, response), `},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"`...)
	dst = append(dst, people[q.mix2(len(people))]...)
	dst = append(dst, `@example.com"}],"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"`...)
	dst = append(dst, [...]string{"view", "edit", "admin", "cluster-admin"}[q.mix2(4)]...)
	return append(dst, `"}}`...)
}

func appendSubjectAccessReview(dst []byte, q *request, response bool) []byte {
	dst = append(dst, `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{"creationTimestamp":null},"spec":{"resourceAttributes":{"namespace":"`...)
	dst = append(dst, q.workload.namespace...)
	dst = append(dst, `","verb":"get","version":"v1","resource":"pods"},"user":"`...)
	dst = append(dst, people[q.mix2(len(people))]...)
	dst = append(dst, `@example.com","groups":["system:authenticated"]},"status":{"allowed":`...)
	if response {
		return append(dst, `true,"reason":"RBAC: allowed by RoleBinding \"developers\""}}`...)
	}
	return append(dst, `false}}`...)
}
