//! The servers that are measured: Envoy with each kind of filter, nginx with and without ModSecurity,
//! and the upstream behind them.
//!
//! Every server runs one worker, logs no access and proxies to the same upstream over kept
//! connections, so that two of them differ in nothing but the filter.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::traffic::Mix;

/// Where Debian keeps what the comparison with ModSecurity needs.
const MODSECURITY: &[&str] = &[
    "/usr/sbin/nginx",
    "/usr/lib/nginx/modules/ngx_http_modsecurity_module.so",
    "/etc/nginx/modsecurity.conf",
    "/etc/modsecurity/crs/crs-setup.conf",
    "/usr/share/modsecurity-crs/rules",
];

/// How long a server may take to answer. Under valgrind V8 compiles a module for half a minute.
const READY_WITHIN: Duration = Duration::from_secs(240);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Envoy without a filter.
    Bare,
    /// Envoy with the filter that does nothing but read the headers.
    Floor,
    /// Envoy with ours.
    Ours,
    /// Envoy with ours, asked for what nobody asked for before.
    OursUnseen,
    /// Envoy without a filter, under attack.
    BareAttacked,
    /// Envoy with ours, under attack.
    OursAttacked,
    /// Envoy with thirty plain finds in Lua.
    Lua,
    /// nginx alone.
    Nginx,
    /// nginx with ModSecurity and the Core Rule Set.
    ModSecurity,
}

/// How ModSecurity and the Core Rule Set are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreRuleSet {
    /// As Debian ships both, except that nothing is written to the audit log.
    AsShipped,
    /// The same, but at this paranoia level and answering what it finds itself, so that the answer
    /// tells. Requests reach the upstream without body and headers.
    Enforcing {
        /// From 1, the rule set's default, to 4.
        paranoia: u8,
    },
}

/// The header that nginx adds once a request has been read and handed to ModSecurity: a refusal
/// without it is nginx's own.
pub const REACHED: &str = "x-reached-modsecurity";

impl Subject {
    /// In the order of the table.
    pub const ALL: [Subject; 9] = [
        Subject::Bare,
        Subject::Floor,
        Subject::Ours,
        Subject::OursUnseen,
        Subject::BareAttacked,
        Subject::OursAttacked,
        Subject::Lua,
        Subject::Nginx,
        Subject::ModSecurity,
    ];

    /// The words for it in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Subject::Bare => "a  Envoy, no filter",
            Subject::Floor => "b  Envoy, floor: reads the headers once",
            Subject::Ours => "c  Envoy, Portcullis, benign mix",
            Subject::OursUnseen => "g  Envoy, Portcullis, targets never seen",
            Subject::BareAttacked => "   Envoy, no filter, attack mix",
            Subject::OursAttacked => "d  Envoy, Portcullis, attack mix",
            Subject::Lua => "f  Envoy, Lua with 30 plain finds",
            Subject::Nginx => "   nginx alone",
            Subject::ModSecurity => "e  nginx, ModSecurity + Core Rule Set",
        }
    }

    /// Its row; a space for a baseline of others.
    pub fn letter(self) -> char {
        self.name().chars().next().unwrap_or(' ')
    }

    /// What it is held against: the same server without the filter.
    pub const fn baseline(self) -> Subject {
        match self {
            Subject::Bare | Subject::Floor | Subject::Ours | Subject::OursUnseen | Subject::Lua => {
                Subject::Bare
            }
            Subject::BareAttacked | Subject::OursAttacked => Subject::BareAttacked,
            Subject::Nginx | Subject::ModSecurity => Subject::Nginx,
        }
    }

    /// What is sent to it.
    pub const fn mix(self) -> Mix {
        match self {
            Subject::BareAttacked | Subject::OursAttacked => Mix::Attack,
            Subject::OursUnseen => Mix::Unseen,
            _ => Mix::Benign,
        }
    }

    /// Whether it is nginx.
    pub const fn is_nginx(self) -> bool {
        matches!(self, Subject::Nginx | Subject::ModSecurity)
    }
}

/// The files that the servers are made of.
#[derive(Clone, Debug, clap::Args)]
pub struct Files {
    /// The Envoy to measure, 1.40 or later
    #[arg(long, value_name = "FILE", default_value = ".tools/bin/envoy")]
    pub envoy: PathBuf,
    /// The filter
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/portcullis_http.wasm"
    )]
    pub wasm: PathBuf,
    /// The filter that does the least
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/portcullis_floor.wasm"
    )]
    pub floor: PathBuf,
}

/// What is missing for nginx with ModSecurity, if anything.
pub fn missing_for_nginx() -> Option<&'static str> {
    MODSECURITY
        .iter()
        .copied()
        .find(|file| !Path::new(file).exists())
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it answers.
    pub address: SocketAddr,
    /// Where Envoy's admin endpoint answers.
    admin: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a server, under `wrapper` (a command and its first arguments), with its files in `dir`.
    pub fn start(
        subject: Subject,
        files: &Files,
        upstream: SocketAddr,
        wrapper: &[String],
        dir: &Path,
    ) -> Result<Server> {
        Server::start_with(subject, files, upstream, wrapper, dir, 1)
    }

    /// The same, with this many workers if it is an Envoy.
    pub fn start_with(
        subject: Subject,
        files: &Files,
        upstream: SocketAddr,
        wrapper: &[String],
        dir: &Path,
        workers: usize,
    ) -> Result<Server> {
        std::fs::create_dir_all(dir)?;
        let (address, admin) = (free_port()?, free_port()?);
        let mut command: Vec<String> = wrapper.to_vec();
        if subject.is_nginx() {
            let rules = (subject == Subject::ModSecurity).then_some(CoreRuleSet::AsShipped);
            command.extend(nginx_command(rules, address, upstream, dir)?);
        } else {
            let config = dir.join("envoy.yaml");
            std::fs::write(&config, envoy(subject, files, address, admin, upstream)?)?;
            command.extend([files.envoy.display().to_string(), "-c".to_owned()]);
            command.push(config.display().to_string());
            // Workers of its own beside the main thread, no shared memory with other runs.
            command.extend(["--concurrency".to_owned(), workers.to_string()]);
            let options = "--disable-hot-restart --log-level warning";
            command.extend(options.split(' ').map(str::to_owned));
        }
        Server::spawn(&command, address, admin, dir)
    }

    /// Starts nginx with ModSecurity at this paranoia level, with its files in `dir`.
    pub fn start_enforcing(paranoia: u8, upstream: SocketAddr, dir: &Path) -> Result<Server> {
        std::fs::create_dir_all(dir)?;
        let address = free_port()?;
        let rules = CoreRuleSet::Enforcing { paranoia };
        let command = nginx_command(Some(rules), address, upstream, dir)?;
        Server::spawn(&command, address, address, dir)
    }

    fn spawn(
        command: &[String],
        address: SocketAddr,
        admin: SocketAddr,
        dir: &Path,
    ) -> Result<Server> {
        let (program, arguments) = command.split_first().context("there is no command")?;
        let log = std::fs::File::create(dir.join("log"))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start `{program}`; `make setup` installs it"))?;
        let mut server = Server {
            address,
            admin,
            child,
        };
        server.wait(dir)?;
        Ok(server)
    }

    fn wait(&mut self, dir: &Path) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
                bail!("the server did not start; its log:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Alerts that the filter has counted since the start.
    pub fn alerts(&self) -> Result<u64> {
        let request =
            "GET /stats?filter=portcullis HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n";
        let response = crate::demo::client::send(self.admin, request.as_bytes())?.text();
        let counts = response
            .lines()
            .filter(|line| line.contains("alerts"))
            .filter_map(|line| line.rsplit_once(": ")?.1.trim().parse::<u64>().ok());
        Ok(counts.sum())
    }

    /// Nanoseconds of CPU time that all its threads have used.
    pub fn cpu_ns(&self) -> Result<u64> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let ns = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
            total += ns.unwrap_or(0);
        }
        Ok(total)
    }

    /// KiB of memory that are resident.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .context("the kernel does not tell the resident memory")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot open a port")?;
    Ok(listener.local_addr()?)
}

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";

fn envoy(
    subject: Subject,
    files: &Files,
    address: SocketAddr,
    admin: SocketAddr,
    upstream: SocketAddr,
) -> Result<String> {
    let filter = match subject {
        Subject::Floor => wasm_filter(&files.floor)?,
        Subject::Ours | Subject::OursUnseen | Subject::OursAttacked => wasm_filter(&files.wasm)?,
        Subject::Lua => lua_filter(),
        _ => String::new(),
    };
    let (port, admin, upstream) = (address.port(), admin.port(), upstream.port());
    Ok(format!(
        r#"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - name: edge
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {MANAGER}
          stat_prefix: edge
          use_remote_address: true
          http_filters:
{filter}          - name: envoy.filters.http.router
            typed_config: {{"@type": {FILTERS}.router.v3.Router}}
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{name: all, match: {{prefix: /}}, route: {{cluster: upstream}}}}]}}
  clusters:
  - name: upstream
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: upstream
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}}}]}}]
"#
    ))
}

fn wasm_filter(module: &Path) -> Result<String> {
    let module = module.canonicalize().with_context(|| {
        format!(
            "cannot find the filter `{}`; `make bench` builds it",
            module.display()
        )
    })?;
    let file = serde_json::to_string(&module.to_string_lossy())?;
    Ok(format!(
        r#"          - name: measured
            typed_config:
              "@type": {FILTERS}.wasm.v3.Wasm
              config:
                name: measured
                vm_config: {{vm_id: measured, runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: {file}}}}}}}
                failure_policy: FAIL_RELOAD
                configuration: {{"@type": type.googleapis.com/google.protobuf.StringValue, value: '{{"mode": "detect"}}'}}
"#
    ))
}

/// What somebody would write instead: ten words in each of the three places that ours looks at most.
fn lua_filter() -> String {
    const WORDS: &[&str] = &[
        "union select",
        "<script",
        "../",
        "/etc/passwd",
        "sqlmap",
        "nikto",
        "${jndi:",
        "' or ",
        "cmd.exe",
        "/.env",
    ];
    let mut code = String::new();
    for header in [":path", "user-agent", "referer"] {
        for word in WORDS {
            let _ = writeln!(
                code,
                "                    if v[\"{header}\"]:find(\"{word}\", 1, true) then found(h) end"
            );
        }
    }
    format!(
        r#"          - name: envoy.filters.http.lua
            typed_config:
              "@type": {FILTERS}.lua.v3.Lua
              default_source_code:
                inline_string: |
                  local function found(h) h:logWarn("found") end
                  function envoy_on_request(h)
                    local headers = h:headers()
                    local v = {{}}
                    for _, name in ipairs({{":path", "user-agent", "referer"}}) do
                      v[name] = string.lower(headers:get(name) or "")
                    end
{code}                  end
"#
    )
}

/// Writes nginx's configuration, and ModSecurity's, into `dir`, and returns the command for it.
fn nginx_command(
    rules: Option<CoreRuleSet>,
    address: SocketAddr,
    upstream: SocketAddr,
    dir: &Path,
) -> Result<[String; 5]> {
    let config = dir.join("nginx.conf");
    std::fs::write(&config, nginx(rules, address, upstream, dir)?)?;
    Ok([
        MODSECURITY[0].to_owned(),
        "-p".to_owned(),
        dir.display().to_string(),
        "-c".to_owned(),
        config.display().to_string(),
    ])
}

fn nginx(
    rules: Option<CoreRuleSet>,
    address: SocketAddr,
    upstream: SocketAddr,
    dir: &Path,
) -> Result<String> {
    let (mut load, mut modsecurity, mut location) = Default::default();
    if let Some(rules) = rules {
        let file = dir.join("modsecurity.conf");
        let (engine, setup) = match rules {
            CoreRuleSet::AsShipped => ("", String::new()),
            CoreRuleSet::Enforcing { paranoia } => {
                // Whatever the client sent, the upstream needs to answer only one kind of request.
                location = format!(
                    "add_header {REACHED} 1 always; proxy_method GET; proxy_pass_request_body off; \
                     proxy_pass_request_headers off;"
                );
                let setup = format!(
                    "SecAction \"id:900000,phase:1,nolog,pass,t:none,setvar:tx.paranoia_level={paranoia},\
                     setvar:tx.blocking_paranoia_level={paranoia}\"\n"
                );
                ("SecRuleEngine On\n", setup)
            }
        };
        std::fs::write(
            &file,
            format!(
                "Include {}\nSecAuditEngine Off\n{engine}Include {}\n{setup}Include {}/*.conf\n",
                MODSECURITY[2], MODSECURITY[3], MODSECURITY[4]
            ),
        )?;
        load = format!("load_module {};", MODSECURITY[1]);
        modsecurity = format!("modsecurity on; modsecurity_rules_file {};", file.display());
    }
    Ok(format!(
        r#"{load}
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  upstream behind {{ server {upstream}; keepalive 32; keepalive_requests 100000000; }}
  server {{
    listen {address};
    keepalive_requests 100000000;
    {modsecurity}
    location / {{
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      {location}
    }}
  }}
}}
"#
    ))
}

/// What is compared with: versions of nginx, ModSecurity and the Core Rule Set, as far as they are told.
pub fn versions_of_peer() -> String {
    // nginx tells its version on standard error.
    let nginx = Command::new(MODSECURITY[0]).arg("-v").output().ok();
    let nginx = nginx.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    let nginx = nginx.as_deref().and_then(|text| text.rsplit('/').next());
    let package = Command::new("dpkg-query")
        .args(["-W", "-f=${Version}", "libmodsecurity3"])
        .output();
    let package = package.ok().filter(|output| output.status.success());
    let modsecurity = package.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let head = Path::new(MODSECURITY[4]).join("REQUEST-901-INITIALIZATION.conf");
    let head = std::fs::read_to_string(head).unwrap_or_default();
    let rules = head.lines().find_map(|line| line.split_once("ver."));
    format!(
        "nginx {}, ModSecurity {}, Core Rule Set {}",
        nginx.map_or("?", str::trim),
        modsecurity.as_deref().map_or("?", str::trim),
        rules.map_or("?", |(_, version)| version.trim())
    )
}

/// Starts the upstream: every request, which has no body, gets the same short page.
pub fn upstream() -> Result<SocketAddr> {
    const PAGE: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<p>all well</p>";
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .context("cannot open a port for the upstream")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            std::thread::spawn(move || {
                let mut head = vec![0; 64 * 1024];
                let mut filled = 0;
                // A gateway sends one request at a time on a connection.
                while let Ok(read @ 1..) = stream.read(head.get_mut(filled..).unwrap_or_default()) {
                    filled += read;
                    if head
                        .get(..filled)
                        .is_some_and(|head| head.ends_with(b"\r\n\r\n"))
                    {
                        filled = 0;
                        if stream.write_all(PAGE).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    Ok(address)
}
