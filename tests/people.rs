//! People at a server with certificates: tokens, roles, contexts. None of it needs Docker.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    harness::{PATIENCE, WINDLASS, forget, free_address, kill, windlass},
    terminal::Terminal,
};

const MANIFEST: &str = "kind: Service\nname: web\nspec:\n  image: nginx:1.27\n";

/// Where a server keeps its state in the directory for the state of a user's programs.
const DATA_DIR: &str = "windlass/server";

/// A cluster with certificates, and its owner.
struct Site {
    dir: TempDir,
    address: SocketAddr,
    server: Option<Child>,
}

impl Site {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let address = free_address();
        let data_dir = dir.path().join(DATA_DIR);
        let init = windlass()
            .args(["server", "init", "--data-dir"])
            .arg(&data_dir)
            .output()
            .unwrap();
        assert!(init.status.success(), "{init:?}");
        let log = fs::File::create(dir.path().join("server.log")).unwrap();
        let server = windlass()
            .args(["server", "--listen", &address.to_string(), "--data-dir"])
            .arg(&data_dir)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let site = Self {
            dir,
            address,
            server: Some(server),
        };
        let began = Instant::now();
        while !site.owner(&["version"]).status.success() {
            assert!(began.elapsed() < PATIENCE, "{}", site.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        site
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap()
    }

    fn socket(&self) -> String {
        let socket = self.dir.path().join(DATA_DIR).join("windlass.sock");
        format!("unix:{}", socket.display())
    }

    /// What the server's owner does, over the socket.
    fn owner(&self, args: &[&str]) -> Output {
        windlass()
            .args(args)
            .env("WINDLASS_SERVER", self.socket())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// A new token: nothing else is on standard output, and it is nowhere else.
    fn token(&self, args: &[&str]) -> String {
        let made = self.owner(&[&["token", "create"], args].concat());
        let said = error(&made);
        let token = done(made);
        let token = token.strip_suffix('\n').unwrap().to_owned();
        assert!(token.starts_with("wl") && !token.contains('\n'), "{token}");
        assert!(!said.contains(&token), "{said}");
        token
    }

    fn token_of(&self, role: &str) -> String {
        self.token(&["--role", role])
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        kill(&mut self.server);
    }
}

/// Somebody with a home of their own.
struct Person {
    home: TempDir,
}

impl Person {
    fn new() -> Self {
        Self {
            home: TempDir::new().unwrap(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = windlass();
        command
            .args(args)
            .env("HOME", self.home.path())
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null());
        command
    }

    fn try_to(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn does(&self, args: &[&str]) -> String {
        done(self.try_to(args))
    }

    /// What they are told when they are refused.
    fn refused(&self, args: &[&str], code: i32) -> String {
        let output = self.try_to(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        error(&output)
    }

    fn try_login(&self, url: &str, token: &str, more: &[&str]) -> Output {
        let mut child = self
            .command(&[&["login", url, "--token-stdin"], more].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{token}").unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    fn logs_in(&self, site: &Site, token: &str, more: &[&str]) -> String {
        done(self.try_login(&site.url(), token, more))
    }

    fn manifest(&self) -> String {
        let path = self.home.path().join("web.yaml");
        fs::write(&path, MANIFEST).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn config(&self) -> PathBuf {
        self.home.path().join(".config/windlass/config.json")
    }
}

fn done(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn people_do_what_their_role_allows_until_their_token_is_revoked() {
    let site = Site::start();
    let (viewer, operator) = (Person::new(), Person::new());
    let told = viewer.logs_in(&site, &site.token_of("viewer"), &[]);
    assert!(told.contains("as viewer (token "), "{told}");
    operator.logs_in(&site, &site.token_of("operator"), &[]);
    let manifest = operator.manifest();
    let refused = viewer.refused(&["apply", "--no-wait", &manifest], 1);
    let says = "this needs the role operator, and the token has the role viewer";
    assert!(
        refused.contains(says) && refused.contains("windlass whoami"),
        "{refused}"
    );
    let refused = viewer.refused(&["apply", "--no-wait", "-o", "json", &manifest], 1);
    assert_eq!(json(&refused)["code"], "forbidden", "{refused}");
    operator.does(&["apply", "--no-wait", &manifest]);
    let seen = viewer.does(&["get", "workloads", "-o", "name"]);
    assert_eq!(seen, "workload/web\n");
    viewer.refused(&["delete", "web"], 1);
    operator.refused(&["token", "ls"], 1);
    operator.refused(&["token", "create", "--role", "admin"], 1);
    let whoami = json(&viewer.does(&["whoami", "-o", "json"]));
    assert_eq!(whoami["role"], "viewer", "{whoami}");
    let id = whoami["id"].as_str().unwrap();
    let revoked = done(site.owner(&["token", "rm", &format!("token/{id}")]));
    assert_eq!(revoked, format!("token {id} revoked\n"));
    let refused = viewer.refused(&["get", "workloads"], 1);
    assert!(
        refused.contains("revoked") && refused.contains("windlass login"),
        "{refused}"
    );
    operator.does(&["get", "workloads"]);
}

#[test]
fn a_token_for_a_namespace_works_there_and_nowhere_else() {
    let site = Site::start();
    let person = Person::new();
    let token = site.token(&["--role", "operator", "--namespaces", "shop"]);
    let told = person.logs_in(&site, &token, &[]);
    assert!(told.contains("operator of shop"), "{told}");
    let manifest = person.manifest();
    // It is the one to work in, without a word.
    person.does(&["apply", "--no-wait", &manifest]);
    let seen = person.does(&["get", "workloads", "-o", "json"]);
    assert_eq!(json(&seen)["items"][0]["namespace"], "shop", "{seen}");
    let refused = person.refused(&["get", "workloads", "-n", "default"], 1);
    assert!(
        refused.contains("does not reach the namespace default"),
        "{refused}"
    );
    let refused = person.refused(&["get", "nodes"], 1);
    assert!(refused.contains("concerns the whole cluster"), "{refused}");
}

#[test]
fn tokens_are_listed_without_what_they_are() {
    let site = Site::start();
    let token = site.token(&["--role", "viewer", "--description", "status page"]);
    let join = site.token(&["--join", "edge-1", "--expires-in", "30m"]);
    let table = done(site.owner(&["token", "ls"]));
    let headers: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    let expected = ["ID", "FOR", "NAMESPACES", "DESCRIPTION", "AGE", "EXPIRES"];
    assert_eq!(headers, expected);
    assert!(
        table.contains("viewer") && table.contains("status page"),
        "{table}"
    );
    assert!(table.contains("join edge-1"), "{table}");
    for format in ["table", "json", "yaml", "name"] {
        let list = done(site.owner(&["token", "ls", "-o", format]));
        for token in [&token, &join] {
            assert!(!list.contains(&token[4..]), "{list}");
        }
    }
    let log = site.log();
    assert!(!log.contains(&token) && !log.contains(&join), "{log}");
    let shown = json(&done(
        site.owner(&["token", "create", "--join", "-o", "json"]),
    ));
    assert!(shown["secret"].as_str().unwrap().starts_with("wlj_"));
}

#[test]
fn the_server_of_another_cluster_never_sees_the_token() {
    let (ours, theirs) = (Site::start(), Site::start());
    let person = Person::new();
    let token = ours.token_of("admin");
    let output = person.try_login(&theirs.url(), &token, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = error(&output);
    let says = "this is not the server that the token is for";
    assert!(told.contains(says) && !told.contains(&token), "{told}");
    assert!(!person.config().exists());
    // Nor later, when somebody else is at the address.
    person.logs_in(&ours, &token, &["--name", "ours"]);
    let output = person.try_to(&[
        "get",
        "nodes",
        "--context",
        "ours",
        "--server",
        &theirs.url(),
    ]);
    assert!(error(&output).contains(says), "{output:?}");
}

#[test]
fn what_is_no_token_is_told_before_anybody_is_asked() {
    let person = Person::new();
    // Nobody listens there.
    let url = format!("https://{}", free_address());
    let site = Site::start();
    let (token, join) = (site.token_of("viewer"), site.token(&["--join"]));
    for (text, says) in [
        (&token[..60], "not complete"),
        ("password", "begins with `wlj_`"),
        (&join, "a node can join"),
    ] {
        let output = person.try_login(&url, text, &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let told = error(&output);
        assert!(told.contains(says) && !told.contains(text), "{told}");
    }
    assert_eq!(person.try_login(&url, &token, &[]).status.code(), Some(3));
}

#[test]
fn contexts_are_chosen_and_forgotten() {
    let (one, two) = (Site::start(), Site::start());
    let person = Person::new();
    let tokens = [one.token_of("viewer"), two.token_of("operator")];
    person.logs_in(&one, &tokens[0], &["--name", "one"]);
    // The default name is that of the host, which is the same one here.
    person.logs_in(&two, &tokens[1], &["--name", "two", "-n", "shop"]);
    let output = person.try_login(&one.url(), &tokens[0], &["--name", "two"]);
    assert!(
        error(&output).contains("is of another server"),
        "{output:?}"
    );
    let role = |more: &[&str]| {
        let whoami = person.does(&[&["whoami", "-o", "json"], more].concat());
        json(&whoami)["role"].as_str().unwrap().to_owned()
    };
    assert_eq!(role(&[]), "operator");
    assert_eq!(role(&["--context", "one"]), "viewer");
    assert_eq!(role(&["--server", &one.url()]), "viewer");
    person.does(&["context", "use", "one"]);
    assert_eq!(role(&[]), "viewer");
    let list = person.does(&["context", "ls", "-o", "json"]);
    let contexts = json(&list);
    assert_eq!(contexts[0]["name"], "one");
    assert_eq!(contexts[0]["current"], true);
    assert_eq!(contexts[1]["namespace"], "shop");
    let table = person.does(&["context", "ls"]);
    assert!(table.contains("*   one"), "{table}");
    for token in &tokens {
        assert!(!format!("{list}{table}").contains(&token[4..]));
    }
    person.does(&["logout", "two"]);
    let refused = person.refused(&["get", "nodes", "--context", "two"], 1);
    assert!(refused.contains("windlass login"), "{refused}");
    assert!(
        !fs::read_to_string(person.config())
            .unwrap()
            .contains(&tokens[1])
    );
    person.does(&["context", "rm", "one"]);
    person.refused(&["context", "use", "one"], 5);
}

#[test]
fn the_owner_of_a_server_on_this_machine_needs_to_say_nothing() {
    let site = Site::start();
    let person = Person::new();
    let here = |state: &Path| {
        // Whoever is root in the tests is nobody there, with the same files: root's own directory
        // is not one for tests.
        let mut command = Command::new("unshare");
        command.args(["--user", WINDLASS, "whoami"]);
        forget(&mut command);
        command.env("HOME", person.home.path());
        command.env_remove("XDG_CONFIG_HOME");
        command.env("XDG_STATE_HOME", state).output().unwrap()
    };
    let told = done(here(site.dir.path()));
    assert!(
        told.ends_with(&format!("everything at {}\n", site.socket())),
        "{told}"
    );
    // A socket that nobody listens at is none.
    let gone = TempDir::new().unwrap();
    let socket = gone.path().join(DATA_DIR).join("windlass.sock");
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let told = error(&here(gone.path()));
    assert!(!told.contains("unix:"), "{told}");
}

#[test]
fn the_file_of_contexts_is_its_owners_alone() {
    let site = Site::start();
    let person = Person::new();
    person.logs_in(&site, &site.token_of("viewer"), &[]);
    let config = person.config();
    assert_eq!(mode(&config), 0o600);
    assert_eq!(mode(config.parent().unwrap()), 0o700);
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = person.refused(&["get", "nodes"], 1);
    assert!(refused.contains("chmod 600"), "{refused}");
}

#[test]
fn a_program_needs_no_file_and_a_wrong_address_says_what_to_do() {
    let site = Site::start();
    let program = Person::new();
    let token = site.token_of("viewer");
    let with_token = |url: &str| {
        let mut command = program.command(&["get", "nodes"]);
        command.env("WINDLASS_TOKEN", &token);
        command.env("WINDLASS_SERVER", url).output().unwrap()
    };
    done(with_token(&site.url()));
    assert!(!program.config().exists());
    let plain = format!("http://{}", site.address);
    let output = with_token(&plain);
    assert!(
        error(&output).contains("https:// servers only"),
        "{output:?}"
    );
    let refused = program.refused(&["get", "nodes", "--server", &plain], 1);
    assert!(refused.contains("windlass login https://"), "{refused}");
    let refused = program.refused(&["get", "nodes", "--server", &site.url()], 2);
    assert!(
        refused.contains(&format!("windlass login {}", site.url())),
        "{refused}"
    );
}

#[test]
fn a_token_that_is_typed_is_not_shown() {
    let site = Site::start();
    let person = Person::new();
    let token = site.token_of("viewer");
    let (terminal, slave) = Terminal::open(30, 100);
    let before = rustix::termios::tcgetattr(&slave).unwrap();
    let mut login = person
        .command(&["login", &site.url()])
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave.try_clone().unwrap())
        .spawn()
        .unwrap();
    terminal.until("it is not shown");
    terminal.press(format!("{token}\r").as_bytes());
    terminal.until("logged in to");
    assert!(login.wait().unwrap().success());
    assert!(!terminal.seen.lock().unwrap().contains(&token[4..20]));
    let after = rustix::termios::tcgetattr(&slave).unwrap();
    assert_eq!(after.local_modes, before.local_modes);
}
