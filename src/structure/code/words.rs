//! Words of template engines and of the languages underneath, by what makes them telling.

/// Names that no placeholder has, wherever they stand in an expression.
pub const NAMES: [&str; 30] = [
    "getruntime",
    "processbuilder",
    "scriptenginemanager",
    "classloader",
    "getdeclaredmethods",
    "getenginebyname",
    "newinstance",
    "urlclassloader",
    "mainmodule",
    "child_process",
    "subclasses",
    "_memberaccess",
    "memberaccess",
    "allowstaticmethodaccess",
    "registerundefinedfiltercallback",
    "registerundefinedfunctioncallback",
    "_templatereference__context",
    "spawnsync",
    "execsync",
    "shell_exec",
    "proc_open",
    "create_function",
    "call_user_func",
    "secret_key",
    "httpservletresponse",
    "getinputstream",
    "ioutils",
    "getmethods",
    "func_globals",
    "gi_frame",
];

/// Names of functions that run a command or code, also where only their name is given.
pub const COMMANDS: [&str; 14] = [
    "system",
    "exec",
    "popen",
    "passthru",
    "shell_exec",
    "eval",
    "assert",
    "phpinfo",
    "proc_open",
    "pcntl_exec",
    "call_user_func",
    "create_function",
    "var_dump",
    "file_get_contents",
];

/// Filters that take the name of a function.
pub const APPLIERS: [&str; 7] = ["filter", "map", "reduce", "sort", "find", "usort", "column"];

/// Packages that no template names for show.
pub const PACKAGES: [&str; 11] = [
    "java.lang",
    "java.io",
    "java.util",
    "java.net",
    "java.nio",
    "javax.",
    "freemarker.",
    "org.apache.",
    "org.springframework.",
    "com.sun.",
    "sun.misc.",
];

/// Names that tell when they are called.
pub const CALLS: [&str; 25] = [
    "sleep",
    "phpversion",
    "getclass",
    "forname",
    "getenv",
    "__import__",
    "import",
    "require",
    "constructor",
    "mro",
    "dump",
    "getmodule",
    "getbean",
    "loadclass",
    "getresource",
    "base64_decode",
    "urlopen",
    "readfile",
    "fopen",
    "listdir",
    "check_output",
    "check_call",
    "getattr",
    "spawn",
    "puts",
];

/// Objects of an engine that somebody wants to see.
pub const OBJECTS: [&str; 6] = ["config", "self", "_self", "request", "_context", "settings"];

/// How an expression begins that reaches into the engine.
pub const STEMS: [&str; 20] = [
    "pagecontext.request.gets",
    "applicationscope",
    "sessionscope",
    "class.getclassloader",
    "request.getsession",
    "_self.",
    "self._",
    "app.request",
    "config.items",
    "config.iteritems",
    "request.application",
    "request|attr",
    "_context",
    "settings.secret",
    "config.from_object",
    "config[",
    "messages.storages",
    "constructor.",
    "this.constructor",
    "$on.constructor",
];

/// Statements of a template.
pub const STATEMENTS: [&str; 11] = [
    "for", "set", "import", "include", "extends", "macro", "debug", "from", "filter", "call",
    "print",
];

/// Look-ups of Log4j and of Commons Text that reach out of the message.
pub const LOOKUPS: [&str; 20] = [
    "jndi",
    "env",
    "sys",
    "lower",
    "upper",
    "java",
    "ctx",
    "base64",
    "script",
    "dns",
    "docker",
    "k8s",
    "kubernetes",
    "bundle",
    "spring",
    "sd",
    "const",
    "urlencoder",
    "urldecoder",
    "hostname",
];
