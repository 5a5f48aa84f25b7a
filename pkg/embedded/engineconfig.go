package embedded

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
)

// engineConfig is what the engine runs with. The values suit a laptop that
// also runs everything else: half of the memory at most, small caches, few
// merge threads.
func engineConfig(directory string, tcp, http int, server bool) []byte {
	settings := [][2]string{
		{"path", dataFolder(directory) + "/"},
		{"tmp_path", dataFolder(directory) + "/tmp/"},
		{"listen_host", "127.0.0.1"},
		{"tcp_port", strconv.Itoa(tcp)},
		{"http_port", strconv.Itoa(http)},
		{"timezone", "UTC"},
		{"max_server_memory_usage_to_ram_ratio", "0.5"},
		{"mark_cache_size", "134217728"},
		{"uncompressed_cache_size", "0"},
		{"max_concurrent_queries", "200"},
		// The engine's end waits for idle HTTP connections.
		{"keep_alive_timeout", "2"},
		{"background_pool_size", "4"},
		{"background_merges_mutations_concurrency_ratio", "2"},
		{"background_move_pool_size", "1"},
		{"background_fetches_pool_size", "1"},
		{"background_common_pool_size", "2"},
		{"background_schedule_pool_size", "8"},
		{"background_message_broker_schedule_pool_size", "4"},
		{"background_distributed_schedule_pool_size", "4"},
		{"tables_loader_foreground_pool_size", "2"},
		{"tables_loader_background_pool_size", "2"},
	}
	var text bytes.Buffer
	text.WriteString("<!-- Written at every start; put settings of your own into a file and name it. -->\n<clickhouse>\n")
	for _, setting := range settings {
		fmt.Fprintf(&text, "    <%s>", setting[0])
		// A bytes.Buffer does not fail.
		_ = xml.EscapeText(&text, []byte(setting[1]))
		fmt.Fprintf(&text, "</%s>\n", setting[0])
	}
	// With half as many merges as this already waiting, pool size minus this
	// must leave room for small merges.
	text.WriteString("    <merge_tree>\n" +
		"        <number_of_free_entries_in_pool_to_lower_max_size_of_merge>2</number_of_free_entries_in_pool_to_lower_max_size_of_merge>\n" +
		"        <number_of_free_entries_in_pool_to_execute_mutation>2</number_of_free_entries_in_pool_to_execute_mutation>\n" +
		"        <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>2</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>\n" +
		"    </merge_tree>\n")
	if server {
		text.WriteString(serverUsers)
	}
	text.WriteString("</clickhouse>\n")
	return text.Bytes()
}

// serverUsers is what the library has built in and a server wants spelled out.
const serverUsers = `    <logger><level>warning</level><console>1</console></logger>
    <user_directories><users_xml><path>config.xml</path></users_xml></user_directories>
    <profiles><default/></profiles>
    <quotas><default/></quotas>
    <users><default>
        <password/>
        <networks><ip>127.0.0.1</ip></networks>
        <profile>default</profile>
        <quota>default</quota>
        <access_management>1</access_management>
    </default></users>
`
