//! Credentials for registries, from the machine's Docker configuration file.

use std::{collections::BTreeMap, env, io, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use windlass_api::image::DEFAULT_REGISTRY;

/// The address under which `docker login` stores what is for Docker's own registry, and which the
/// engine expects with it.
const DOCKER_IO_ADDRESS: &str = "https://index.docker.io/v1/";
/// Other names of that registry.
const DOCKER_IO_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// A Docker configuration file, as far as it says something about registries.
#[derive(Default, Deserialize)]
struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credsStore")]
    creds_store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

/// What there is for a registry.
pub(super) struct Found {
    /// The credentials, if there are any.
    pub(super) credentials: Option<DockerCredentials>,
    /// Where they come from, or why there are none and what could be done. No secret is in it.
    pub(super) note: String,
}

/// Looks for credentials of a registry. It is done for every pull, so that a `docker login`
/// counts at once.
pub(super) async fn find(registry: &str) -> Found {
    let without = |note| Found {
        credentials: None,
        note,
    };
    let Some(path) = config_path() else {
        return without("without credentials: neither DOCKER_CONFIG nor HOME is set".to_owned());
    };
    let shown = path.display();
    let text = match tokio::fs::read(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return without(format!(
                "without credentials: there is no {shown}; run `docker login {registry}`"
            ));
        }
        Err(error) => return without(format!("without credentials: cannot read {shown}: {error}")),
    };
    match serde_json::from_slice::<ConfigFile>(&text) {
        Ok(config) => match config.credentials(registry) {
            Ok(credentials) => Found {
                credentials: Some(credentials),
                note: format!("with the credentials for {registry} from {shown}"),
            },
            Err(why) => without(format!("without credentials: {shown} {why}")),
        },
        Err(error) => without(format!(
            "without credentials: {shown} is no docker configuration: {error}"
        )),
    }
}

/// The configuration file: in `$DOCKER_CONFIG` or `~/.docker`.
fn config_path() -> Option<PathBuf> {
    let dir = match env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env::var_os("HOME")?).join(".docker"),
    };
    Some(dir.join("config.json"))
}

impl ConfigFile {
    /// The credentials of a registry, or why there are none.
    fn credentials(&self, registry: &str) -> Result<DockerCredentials, String> {
        let address = match registry {
            DEFAULT_REGISTRY => DOCKER_IO_ADDRESS,
            other => other,
        };
        let of_registry = self
            .auths
            .iter()
            .filter(|(key, _)| registry_of(key) == registry);
        let found = of_registry
            .filter_map(|(_, auth)| auth.credentials(address))
            .next();
        found.ok_or_else(|| self.explain(registry))
    }

    fn explain(&self, registry: &str) -> String {
        let of_registry = self
            .cred_helpers
            .iter()
            .find(|(key, _)| registry_of(key) == registry);
        let helper = of_registry
            .map(|(_, helper)| helper)
            .or(self.creds_store.as_ref());
        match helper {
            Some(helper) => format!(
                "keeps those for {registry} in the credential helper `{helper}`, and helpers are \
                 not used yet; put an `auth` entry into it"
            ),
            None => format!("has none for {registry}; run `docker login {registry}`"),
        }
    }
}

/// The registry that a key of the file is about: a host, or an address.
fn registry_of(key: &str) -> &str {
    let host = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let host = host.unwrap_or(key);
    let host = host.split_once('/').map_or(host, |(host, _)| host);
    if DOCKER_IO_ALIASES.contains(&host) {
        DEFAULT_REGISTRY
    } else {
        host
    }
}

impl Auth {
    fn credentials(&self, address: &str) -> Option<DockerCredentials> {
        let token = self
            .identity_token
            .clone()
            .filter(|token| !token.is_empty());
        let (username, password) = match (self.user_and_password(), &token) {
            (Some((username, password)), _) => (Some(username), Some(password)),
            (None, Some(_)) => (None, None),
            (None, None) => return None,
        };
        Some(DockerCredentials {
            username,
            password,
            identitytoken: token,
            serveraddress: Some(address.to_owned()),
            ..DockerCredentials::default()
        })
    }

    fn user_and_password(&self) -> Option<(String, String)> {
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Some((user.clone(), password.clone()));
        }
        let decoded = STANDARD.decode(self.auth.as_ref()?.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        // Old versions of Docker padded the password with NUL characters.
        Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: serde_json::Value) -> ConfigFile {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn credentials_are_found_in_every_form() {
        let config = config(json!({ "auths": {
            "registry.site:5000": { "auth": STANDARD.encode("ann:s3:cret") },
            "https://other.site/v2/": { "username": "bob", "password": "pw" },
            DOCKER_IO_ADDRESS: { "auth": STANDARD.encode("carl:x") },
            "token.site": { "identitytoken": "t" },
        }}));
        let user = |registry: &str| {
            let found = config.credentials(registry).unwrap();
            (
                found.username.unwrap_or_default(),
                found.password.unwrap_or_default(),
            )
        };
        assert_eq!(
            user("registry.site:5000"),
            ("ann".to_owned(), "s3:cret".to_owned())
        );
        assert_eq!(user("other.site"), ("bob".to_owned(), "pw".to_owned()));
        assert_eq!(user("docker.io"), ("carl".to_owned(), "x".to_owned()));
        let address = config.credentials("docker.io").unwrap().serveraddress;
        assert_eq!(address.as_deref(), Some(DOCKER_IO_ADDRESS));
        assert_eq!(
            config
                .credentials("token.site")
                .unwrap()
                .identitytoken
                .unwrap(),
            "t"
        );
        assert!(config.credentials("registry.site").is_err());
    }

    #[test]
    fn what_is_missing_is_explained() {
        let why = |value, registry| config(value).credentials(registry).unwrap_err();
        let helper = why(
            json!({ "auths": { "a.site": {} }, "credsStore": "pass" }),
            "a.site",
        );
        assert!(helper.contains("credential helper `pass`"), "{helper}");
        let of_registry = json!({ "credHelpers": { "a.site": "ecr" }, "credsStore": "pass" });
        assert!(why(of_registry, "a.site").contains("`ecr`"));
        assert!(why(json!({ "HttpHeaders": {} }), "a.site").contains("docker login a.site"));
        assert!(
            why(
                json!({ "auths": { "a.site": { "auth": "%%%" } } }),
                "a.site"
            )
            .contains("none")
        );
    }
}
