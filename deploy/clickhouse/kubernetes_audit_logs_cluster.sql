CREATE DATABASE IF NOT EXISTS `default` ON CLUSTER `main`;

CREATE TABLE IF NOT EXISTS `default`.`kubernetes_audit_logs` ON CLUSTER `main`
(
    `workspaceID` String CODEC(ZSTD(1)),
    `sourceID` String CODEC(ZSTD(1)),
    `sourceType` LowCardinality(String) CODEC(ZSTD(1)),
    `sourceTTL` UInt32 CODEC(ZSTD(1)),
    `receivedAt` DateTime CODEC(DoubleDelta, ZSTD(1)),
    `id` String CODEC(ZSTD(1)),
    `eventTime` DateTime CODEC(Delta(4), ZSTD(1)),
    `eventName` String CODEC(ZSTD(1)),
    `eventID` String CODEC(ZSTD(1)),
    `srcIP` String CODEC(ZSTD(1)),
    `srcASCountryCode` String CODEC(ZSTD(1)),
    `srcASNumber` UInt32 CODEC(ZSTD(1)),
    `srcASOrganization` String CODEC(ZSTD(1)),
    `srcCity` String CODEC(ZSTD(1)),
    `srcConnectionType` String CODEC(ZSTD(1)),
    `srcISP` String CODEC(ZSTD(1)),
    `srcLatitude` Float64 CODEC(ZSTD(1)),
    `srcLongitude` Float64 CODEC(ZSTD(1)),
    `srcUserType` String CODEC(ZSTD(1)),
    `dstIP` String CODEC(ZSTD(1)),
    `dstASCountryCode` String CODEC(ZSTD(1)),
    `dstASNumber` UInt32 CODEC(ZSTD(1)),
    `dstASOrganization` String CODEC(ZSTD(1)),
    `dstCity` String CODEC(ZSTD(1)),
    `dstConnectionType` String CODEC(ZSTD(1)),
    `dstISP` String CODEC(ZSTD(1)),
    `dstLatitude` Float64 CODEC(ZSTD(1)),
    `dstLongitude` Float64 CODEC(ZSTD(1)),
    `dstUserType` String CODEC(ZSTD(1)),
    `actor` Map(String, String) CODEC(ZSTD(1)),
    `tags` Map(String, String) CODEC(ZSTD(1)),
    `resources` Array(String) CODEC(ZSTD(1)),
    `serviceName` String CODEC(ZSTD(1)),
    `readOnly` Bool CODEC(ZSTD(1)),
    `rawLog` String CODEC(ZSTD(3)),
    `date` DateTime CODEC(Delta(4), ZSTD(1)),
    `stream` String CODEC(ZSTD(1)),
    `time` DateTime CODEC(Delta(4), ZSTD(1)),
    `kind` String CODEC(ZSTD(1)),
    `apiVersion` String CODEC(ZSTD(1)),
    `level` String CODEC(ZSTD(1)),
    `auditID` String CODEC(ZSTD(1)),
    `stage` String CODEC(ZSTD(1)),
    `requestURI` String CODEC(ZSTD(1)),
    `verb` String CODEC(ZSTD(1)),
    `user.username` String CODEC(ZSTD(1)),
    `user.groups` Array(String) CODEC(ZSTD(1)),
    `sourceIPs` Array(String) CODEC(ZSTD(1)),
    `userAgent` String CODEC(ZSTD(1)),
    `objectRef.resource` String CODEC(ZSTD(1)),
    `objectRef.namespace` String CODEC(ZSTD(1)),
    `objectRef.name` String CODEC(ZSTD(1)),
    `objectRef.apiVersion` String CODEC(ZSTD(1)),
    `responseStatus.metadata` String CODEC(ZSTD(1)),
    `responseStatus.code` Int64 CODEC(ZSTD(1)),
    `requestReceivedTimestamp` String CODEC(ZSTD(1)),
    `stageTimestamp` String CODEC(ZSTD(1)),
    `annotations.authorization.k8s.io.decision` String CODEC(ZSTD(1)),
    `annotations.authorization.k8s.io.reason` String CODEC(ZSTD(1)),
    `kubernetes.pod_name` String CODEC(ZSTD(1)),
    `kubernetes.namespace_name` String CODEC(ZSTD(1)),
    `kubernetes.pod_id` String CODEC(ZSTD(1)),
    `kubernetes.labels.component` String CODEC(ZSTD(1)),
    `kubernetes.labels.tier` String CODEC(ZSTD(1)),
    `kubernetes.host` String CODEC(ZSTD(1)),
    `kubernetes.container_name` String CODEC(ZSTD(1)),
    `kubernetes.docker_id` String CODEC(ZSTD(1)),
    `kubernetes.container_hash` String CODEC(ZSTD(1)),
    `kubernetes.container_image` String CODEC(ZSTD(1)),

    INDEX `idx_eventTime` eventTime TYPE minmax GRANULARITY 1,
    INDEX `idx_eventID` eventID TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX `idx_auditID` auditID TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX `idx_srcIP` srcIP TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX `idx_sourceIPs` sourceIPs TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX `idx_username` `user.username` TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX `idx_actor_values` mapValues(actor) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX `idx_eventName` eventName TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX `idx_namespace` `objectRef.namespace` TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX `idx_object` `objectRef.name` TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX `idx_responseCode` `responseStatus.code` TYPE set(64) GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree
PARTITION BY toYYYYMM(receivedAt)
ORDER BY (workspaceID, sourceID, receivedAt, id)
TTL receivedAt + toIntervalDay(sourceTTL) DELETE WHERE sourceTTL > 0
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `default`.`auditstream_objects` ON CLUSTER `main`
(
    `workspaceID` String CODEC(ZSTD(1)),
    `sourceID` String CODEC(ZSTD(1)),
    `sourceTTL` UInt32 CODEC(ZSTD(1)),
    `receivedAt` DateTime COMMENT 'when S3 received the object, as in its rows' CODEC(DoubleDelta, ZSTD(1)),
    `id` String COMMENT 'of the entry; begins with the object id' CODEC(ZSTD(1)),
    `kind` LowCardinality(String) COMMENT 'object: the end of a run through it; lines: those that are not one row each; replay: rows that were made again' CODEC(ZSTD(1)),
    `recordedAt` DateTime COMMENT 'when the entry was made' CODEC(Delta(4), ZSTD(1)),
    `object` String COMMENT 'object id, the first 32 characters of its row ids' CODEC(ZSTD(1)),
    `endpoint` LowCardinality(String) COMMENT 'alias of the S3 endpoint' CODEC(ZSTD(1)),
    `bucket` LowCardinality(String) CODEC(ZSTD(1)),
    `key` String CODEC(ZSTD(1)),
    `etag` String CODEC(ZSTD(1)),
    `version` String CODEC(ZSTD(1)),
    `size` UInt64 COMMENT 'bytes stored, as announced' CODEC(ZSTD(1)),
    `generation` UInt32 COMMENT 'raised by a deliberate retry' CODEC(ZSTD(1)),
    `splitting` LowCardinality(String) COMMENT 'lines, or JSON values' CODEC(ZSTD(1)),
    `firstLine` UInt64 COMMENT 'of an object: where this run through it began' CODEC(ZSTD(1)),
    `lines` UInt64 COMMENT 'of an object: number of its last line, blank ones and all' CODEC(ZSTD(1)),
    `bytes` UInt64 COMMENT 'of an object: decompressed, up to its last line' CODEC(ZSTD(1)),
    `stage` LowCardinality(String) COMMENT 'who recorded it' CODEC(ZSTD(1)),
    `outcome` LowCardinality(String) COMMENT 'of an object: complete or deadletter; of lines: deadletter, skip, or events (several rows each)' CODEC(ZSTD(1)),
    `reason` LowCardinality(String) COMMENT 'of a dead letter or a skip' CODEC(ZSTD(1)),
    `ranges` Array(Tuple(UInt64, UInt64)) COMMENT 'of lines: their numbers, from and to' CODEC(ZSTD(1)),
    `rows` UInt64 COMMENT 'of lines: rows that each of them gave' CODEC(ZSTD(1)),
    `replayTable` String COMMENT 'of a replay: where its rows went' CODEC(ZSTD(1)),
    `replaySince` DateTime64(3) COMMENT 'of a replay: least receivedAt; 1970 is no bound' CODEC(ZSTD(1)),
    `replayUntil` DateTime64(3) COMMENT 'of a replay: receivedAt before which; 1970 is no bound' CODEC(ZSTD(1)),

    INDEX `idx_object` object TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX `idx_key` key TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree
PARTITION BY toYYYYMM(receivedAt)
ORDER BY (workspaceID, sourceID, receivedAt, id)
TTL receivedAt + toIntervalDay(sourceTTL) DELETE WHERE sourceTTL > 0
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `default`.`kubernetes_audit_logs_all` ON CLUSTER `main` AS `default`.`kubernetes_audit_logs`
ENGINE = Distributed('main', 'default', 'kubernetes_audit_logs');

CREATE TABLE IF NOT EXISTS `default`.`auditstream_objects_all` ON CLUSTER `main` AS `default`.`auditstream_objects`
ENGINE = Distributed('main', 'default', 'auditstream_objects');

CREATE OR REPLACE VIEW `default`.`audit_events` ON CLUSTER `main` AS SELECT * FROM `default`.`kubernetes_audit_logs_all` FINAL SETTINGS do_not_merge_across_partitions_select_final = 1;
