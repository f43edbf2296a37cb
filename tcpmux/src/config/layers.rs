//! Laying defaults, file, environment and flags over each other, and remembering who set what.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::Path};

use toml::{Table, Value};

use super::Config;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The configuration file.
    File(String),
    /// An environment variable.
    Variable(String),
    /// A command-line flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => f.write_str(path),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The layers laid so far.
#[derive(Debug)]
pub struct Layers {
    merged: Table,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    /// The built-in defaults.
    pub fn defaults() -> Self {
        let merged: Table = DEFAULTS.parse().expect("the built-in defaults are TOML");
        let mut layers = Self { merged: Table::new(), origins: BTreeMap::new() };
        layers.lay(merged, &Origin::Default);
        layers
    }

    /// Lays a TOML file on top.
    ///
    /// # Errors
    /// A sentence that names the file and the line or key.
    pub fn file(&mut self, path: &Path) -> Result<(), String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        self.text(&text, &path.display().to_string())
    }

    /// Lays TOML text on top; `name` is used in messages.
    ///
    /// # Errors
    /// A sentence that names the line or key.
    pub fn text(&mut self, text: &str, name: &str) -> Result<(), String> {
        let table: Table = text.parse().map_err(|error| format!("{name}: {error}"))?;
        self.checked(table, &Origin::File(name.to_owned()))
    }

    /// The same with TOML text on top.
    ///
    /// # Errors
    /// As for [`Layers::text`].
    pub fn with_text(mut self, text: &str, name: &str) -> Result<Self, String> {
        self.text(text, name)?;
        Ok(self)
    }

    /// Lays `TCPMUX_…` variables on top: `TCPMUX_STORE`, `TCPMUX_LISTEN__USER`; a name with `_FILE`
    /// at its end names a file that holds the value. Lists are written with commas or as TOML.
    ///
    /// # Errors
    /// A sentence that names the variable.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), String> {
        for (name, value) in variables {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
            let Some(rest) = name.strip_prefix("TCPMUX_") else { continue };
            if OF_COMMANDS.contains(&rest) || rest.starts_with("CLIENT_") {
                continue;
            }
            let key = rest.to_ascii_lowercase().replace("__", ".");
            let (key, value) = match key.strip_suffix("_file") {
                Some(key) => {
                    let text = std::fs::read_to_string(value)
                        .map_err(|error| format!("${name}: {value}: {error}"))?;
                    (key.to_owned(), text.trim_end().to_owned())
                }
                None => (key, value.to_owned()),
            };
            self.set(&key, &value, &Origin::Variable(name.to_owned()))?;
        }
        Ok(())
    }

    /// Lays one flag on top.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn flag(&mut self, name: &'static str, key: &str, value: &str) -> Result<(), String> {
        self.set(key, value, &Origin::Flag(name))
    }

    /// The whole configuration, checked.
    ///
    /// # Errors
    /// A sentence that names the key, where its value came from, and the remedy.
    pub fn build(&self) -> Result<Config, String> {
        let config: Config =
            self.merged.clone().try_into().map_err(|error: toml::de::Error| one_line(&error))?;
        config.check().map_err(|problem| {
            let key = problem.split(':').next().unwrap_or_default();
            match self.origins.get(key) {
                Some(Origin::Default) | None => problem,
                Some(origin) => format!("{problem} (set by {origin})"),
            }
        })?;
        Ok(config)
    }

    /// Every key with its value and where that came from, secrets hidden.
    pub fn shown(&self) -> Vec<(String, String, String)> {
        let mut rows = vec![];
        flatten(&self.merged, "", &mut |key, value| {
            let origin = self.origins.get(key).map_or_else(|| "default".into(), ToString::to_string);
            rows.push((key.to_owned(), hide(&without_secrets(value).to_string()), origin));
        });
        rows
    }

    fn set(&mut self, key: &str, text: &str, origin: &Origin) -> Result<(), String> {
        let value = value_of(key, text).map_err(|error| format!("{origin}: {error}"))?;
        let mut parts: Vec<&str> = key.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        let mut table = Table::from_iter([(last.to_owned(), value)]);
        for part in parts.into_iter().rev() {
            table = Table::from_iter([(part.to_owned(), Value::Table(table))]);
        }
        self.checked(table, origin)
    }

    /// Lays a table on top if the result still has the right keys and types.
    fn checked(&mut self, table: Table, origin: &Origin) -> Result<(), String> {
        let mut trial = self.merged.clone();
        merge(&mut trial, table.clone());
        let read: Result<Config, toml::de::Error> = trial.try_into();
        read.map_err(|error| format!("{origin}: {}", one_line(&error)))?;
        self.lay(table, origin);
        Ok(())
    }

    fn lay(&mut self, table: Table, origin: &Origin) {
        flatten(&table, "", &mut |key, _| {
            self.origins.insert(key.to_owned(), origin.clone());
        });
        merge(&mut self.merged, table);
    }
}

fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn flatten(table: &Table, prefix: &str, each: &mut impl FnMut(&str, &Value)) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(inner, &path, each),
            other => each(&path, other),
        }
    }
}

fn value_of(key: &str, text: &str) -> Result<Value, String> {
    if text.starts_with(['[', '{']) {
        let table: Table = format!("value = {text}").parse().map_err(|error| one_line(&error))?;
        return Ok(table["value"].clone());
    }
    if matches!(key, "roles" | "cors.origins") {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()));
    }
    if ["_days", "_per_second", "_per_minute"].iter().any(|unit| key.ends_with(unit)) {
        return text.parse().map(Value::Integer).map_err(|_| format!("`{text}` is not a whole number"));
    }
    Ok(Value::String(text.to_owned()))
}

/// The same value with what no screen should show left out, however deep it is.
fn without_secrets(value: &Value) -> Value {
    match value {
        Value::Table(table) => Value::Table(
            table
                .iter()
                .map(|(key, value)| match key.as_str() {
                    "client_secret" => (key.clone(), Value::String("…".into())),
                    _ => (key.clone(), without_secrets(value)),
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_secrets).collect()),
        other => other.clone(),
    }
}

/// Hides the password of a URL: all between the first colon and the last `@` before the path.
fn hide(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            format!("{scheme}://{}:…@{host}{path}", user.split(':').next().unwrap_or_default())
        }
        None => text.to_owned(),
    }
}

fn one_line(error: &toml::de::Error) -> String {
    let message = error.to_string();
    message.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join(" ")
}

/// Variables that belong to commands, not to the configuration.
const OF_COMMANDS: &[&str] =
    &["CONFIG", "DATA", "ADMIN", "CA", "KEY_FILE", "CLOUD", "TOKEN_FILE", "LOG", "LOG_LEVEL", "FAULT_POINT"];

const DEFAULTS: &str = r#"
public_url = ""
device_url = ""
device_domain = ""
store = "sqlite"
registry = "memory"
roles = ["tunnel", "proxy", "provision", "gateway"]
oidc = []
authorizer = []
publish = []
[listen]
user = "0.0.0.0:8443"
device = "0.0.0.0:7443"
admin = "127.0.0.1:9443"
peer = ""
[cors]
origins = []
[ca]
device_certificate_days = 90
renew_after_expiry_days = 400
[webhooks]
allow = []
[device_gateway]
token = "15m"
telemetry_per_second = 2000
notifications_per_minute = 120
[claims]
factory_reset = "owner"
[events]
days = 30
max_rows = 10000000
max_mib = 4096
[drain]
grace = "30s"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    fn environment(layers: &mut Layers, name: &str, value: &str) -> Result<(), String> {
        layers.environment([(name.into(), value.into())])
    }

    fn origin_of(layers: &Layers, key: &str) -> String {
        layers.shown().into_iter().find(|(name, ..)| name == key).map(|(.., origin)| origin).unwrap()
    }

    #[test]
    fn later_layers_win_and_are_remembered() {
        let mut layers = Layers::defaults();
        layers.text("[listen]\nuser = \"127.0.0.1:1\"\ndevice = \"127.0.0.1:2\"", "cloud.toml").unwrap();
        environment(&mut layers, "TCPMUX_LISTEN__USER", "127.0.0.1:3").unwrap();
        layers.flag("--roles", "roles", "tunnel,proxy").unwrap();
        let shown = |key| origin_of(&layers, key);
        assert_eq!(shown("listen.user"), "$TCPMUX_LISTEN__USER");
        assert_eq!(shown("listen.device"), "cloud.toml");
        assert_eq!(shown("listen.admin"), "default");
        assert_eq!(shown("roles"), "--roles");
        let problem = layers.build().unwrap_err();
        assert!(problem.contains("device_ca"), "{problem}");
    }

    #[test]
    fn the_defaults_are_a_whole_configuration() {
        let config = Layers::defaults().build().unwrap();
        assert!(config.has(Role::Gateway) && config.listen.user.port() == 8443);
    }

    #[test]
    fn unknown_keys_and_wrong_types_name_their_place() {
        let mut layers = Layers::defaults();
        let problem = layers.text("lisen = 1", "cloud.toml").unwrap_err();
        assert!(problem.contains("cloud.toml") && problem.contains("lisen"), "{problem}");
        let problem = environment(&mut layers, "TCPMUX_STROE", "sqlite").unwrap_err();
        assert!(problem.contains("$TCPMUX_STROE") && problem.contains("stroe"), "{problem}");
        let problem = environment(&mut layers, "TCPMUX_CA__DEVICE_CERTIFICATE_DAYS", "ten").unwrap_err();
        assert!(problem.contains("whole number"), "{problem}");
        assert!(layers.flag("--store", "store", "mysql://x").unwrap_err().contains("--store"));
        assert!(layers.build().is_ok(), "what was refused must not stick");
    }

    #[test]
    fn lists_and_tables_come_from_the_environment_too() {
        let mut layers = Layers::defaults();
        let oidc = r#"[{issuer = "http://127.0.0.1:1", audience = "a", tenant = "default"}]"#;
        environment(&mut layers, "TCPMUX_OIDC", oidc).unwrap();
        environment(&mut layers, "TCPMUX_CA__DEVICE_CERTIFICATE_DAYS", "30").unwrap();
        let config = layers.build().unwrap();
        assert_eq!((config.oidc.len(), config.ca.device_certificate_days), (1, 30));
    }

    #[test]
    fn variables_of_commands_are_left_alone() {
        environment(&mut Layers::defaults(), "TCPMUX_CA", "/x/root.crt").unwrap();
    }

    #[test]
    fn a_provider_needs_https_unless_it_is_on_loopback() {
        for (issuer, good) in [
            ("http://127.0.0.1:9", true),
            ("http://login.example.com", false),
            ("https://login.example.com", true),
        ] {
            let mut layers = Layers::defaults();
            let text = format!("[[oidc]]\nissuer = \"{issuer}\"\naudience = \"a\"\ntenant = \"default\"");
            layers.text(&text, "cloud.toml").unwrap();
            assert_eq!(layers.build().is_ok(), good, "{issuer}");
        }
    }

    #[test]
    fn a_client_has_one_secret_and_it_is_not_shown() {
        let provider =
            "[[oidc]]\nissuer = \"https://login.example.com\"\naudience = \"a\"\ntenant = \"default\"";
        let mut layers = Layers::defaults();
        let client = "client_id = \"web\"\nclient_secret = \"canary-7\"";
        layers.text(&format!("{provider}\n{client}"), "cloud.toml").unwrap();
        let config = layers.build().unwrap();
        assert_eq!(config.oidc[0].secret().unwrap().unwrap().expose(), "canary-7");
        assert_eq!(config.oidc[0].scopes, ["openid", "email"]);
        let shown = format!("{:?} {config:?} {}", layers.shown(), toml::to_string(&config).unwrap());
        assert!(shown.contains("client_secret") && !shown.contains("canary-7"), "{shown}");
        for wrong in [
            "client_secret = \"x\"",
            "client_id = \"web\"\nclient_secret = \"x\"\nclient_secret_file = \"/x\"",
            "client_id = \"web\"\nscopes = [\"email\"]",
        ] {
            let mut layers = Layers::defaults();
            layers.text(&format!("{provider}\n{wrong}"), "cloud.toml").unwrap();
            assert!(layers.build().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_registry_comes_from_every_layer_and_its_password_is_shown_by_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("registry");
        std::fs::write(&file, "rediss://cloud:hunter2@redis.example.com\n").unwrap();
        let path = file.display().to_string();
        let mut layers = Layers::defaults();
        layers.text("registry = \"redis://127.0.0.1:6379/1\"", "cloud.toml").unwrap();
        environment(&mut layers, "TCPMUX_REGISTRY", "redis://:hunter2@redis/2").unwrap();
        assert_eq!(origin_of(&layers, "registry"), "$TCPMUX_REGISTRY");
        environment(&mut layers, "TCPMUX_REGISTRY_FILE", &path).unwrap();
        assert_eq!(origin_of(&layers, "registry"), "$TCPMUX_REGISTRY_FILE");
        let config = layers.build().unwrap();
        let shown = format!("{:?} {config:?} {}", layers.shown(), serde_json::to_string(&config).unwrap());
        assert!(shown.contains("redis.example.com") && !shown.contains("hunter2"), "{shown}");
        for bad in ["http://:hunter2@redis", "hunter2", "rediss://:hunter2@redis#insecure"] {
            let said = layers.flag("--registry", "registry", bad).unwrap_err();
            assert!(said.contains("--registry") && said.contains("redis://HOST:PORT"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(hide("postgres://tcpmux:hunter2@db/x"), "postgres://tcpmux:…@db/x");
        assert_eq!(hide("\"redis://:hunt@er2@redis/3\""), "\"redis://:…@redis/3\"");
        assert_eq!(hide("https://a.example.com/@x"), "https://a.example.com/@x");
    }
}
