//! Names of the risk signals that facets raise. Policies see them as `context.signals`.

/// A shell command: what runs cannot be told from its text.
pub const SHELL_DYNAMIC: &str = "shell_dynamic";
/// A shell command hands code to an interpreter, for example `python -c`.
pub const SHELL_INLINE_CODE: &str = "shell_inline_code";
/// A shell command could not be read as a shell reads it; its words were scanned.
pub const SHELL_UNPARSED: &str = "shell_unparsed";
/// A shell command writes, changes or removes files.
pub const SHELL_WRITES: &str = "shell_writes";
/// SQL could not be read, and counts as running code.
pub const SQL_UNPARSED: &str = "sql_unparsed";
/// SQL deletes or updates without a condition, or empties or drops a table.
pub const SQL_UNBOUNDED: &str = "sql_unbounded";
/// Data is sent out.
pub const UPLOAD: &str = "upload";
/// A cloud's metadata service is contacted, which hands out credentials.
pub const METADATA_HOST: &str = "metadata_host";
/// A host of a private network is contacted.
pub const PRIVATE_HOST: &str = "private_host";
/// The machine itself is contacted.
pub const LOOPBACK_HOST: &str = "loopback_host";
/// A link-local address is contacted.
pub const LINK_LOCAL_HOST: &str = "link_local_host";
/// A URL names a user before its host, often to pass for another host.
pub const URL_USERINFO: &str = "url_userinfo";
/// A host's name has characters beyond ASCII, often to pass for another name.
pub const INTERNATIONAL_HOST: &str = "international_host";
/// The catalogue does not know the tool.
pub const TOOL_UNKNOWN: &str = "tool_unknown";
/// The tool's output was written by anybody.
pub const UNTRUSTED_OUTPUT: &str = "untrusted_output";
/// What the tool does cannot be taken back.
pub const IRREVERSIBLE: &str = "irreversible";
/// A facet has more entries than are kept.
pub const FACETS_CUT: &str = "facets_cut";
/// Before a parameter's name: it has another type than the catalogue says.
pub const PARAMETER_TYPE: &str = "param_type:";
