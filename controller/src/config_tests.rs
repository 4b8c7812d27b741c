use super::*;

fn resolve(toml: &str) -> Result<Config, ConfigError> {
    let file: ConfigFile = toml::from_str(toml).unwrap();
    Config::resolve(file, Overrides::default(), Path::new("/d"), |name| {
        (name == BROKER_PASSWORD).then(|| "hush".into())
    })
}

fn refusal(toml: &str) -> String {
    resolve(toml).unwrap_err().to_string()
}

#[test]
fn without_a_file_everything_is_on_loopback() {
    let config = resolve("").unwrap();
    assert_eq!(config.http.to_string(), DEFAULT_HTTP);
    assert!(matches!(config.broker, Broker::Embedded { listen, .. } if listen.to_string() == DEFAULT_MQTT));
    assert_eq!((config.fleet.as_str(), config.desired_lifetime), ("default", DAY * 30));
}

#[test]
fn beyond_loopback_needs_tls() {
    for toml in ["[http]\nlisten = '0.0.0.0:7400'", "[mqtt]\nlisten = '[::]:1883'", "[http]\nlisten = '10.0.0.1:1'"] {
        assert!(refusal(toml).contains("which others can reach"), "{toml}");
        assert!(resolve(&format!("{toml}\n[tls]\ncert = 'c'\nkey = 'k'")).is_ok(), "{toml}");
    }
    assert!(resolve("[http]\nlisten = '[::1]:7400'").is_ok());
    assert!(resolve("[http]\nlisten = '[::ffff:127.0.0.1]:7400'").is_ok());
    assert!(resolve("[http]\nlisten = '[::ffff:10.0.0.1]:7400'").is_err());
}

#[test]
fn a_flag_cannot_open_the_network_either() {
    let flags = Overrides { http: Some("0.0.0.0:1".parse().unwrap()), ..Overrides::default() };
    let refused = Config::resolve(ConfigFile::default(), flags, Path::new("/d"), |_| None);
    assert!(matches!(refused, Err(ConfigError::Exposed { .. })));
}

#[test]
fn half_of_tls_is_refused() {
    assert!(refusal("[tls]\ncert = 'c'").contains("go together"));
}

#[test]
fn one_line_takes_an_external_broker() {
    let config = resolve("[broker]\nurl = 'mqtt://broker.example'").unwrap();
    let Broker::External(broker) = config.broker else { panic!("not external") };
    assert_eq!(broker.address.to_string(), "mqtt://broker.example:1883");
    assert_eq!((broker.login, broker.advertise), (None, broker.address));
}

#[test]
fn the_password_comes_from_the_environment_and_is_not_printed() {
    let config = resolve("[broker]\nurl = 'mqtts://b:1'\nusername = 'me'").unwrap();
    let Broker::External(broker) = &config.broker else { panic!("not external") };
    assert_eq!(broker.login, Some(("me".into(), Password("hush".into()))));
    assert!(!format!("{config:?}").contains("hush"));
}

fn check_url(url: &str, expected: Option<&str>) {
    assert_eq!(broker_address("broker.url", url).ok().map(|a| a.to_string()).as_deref(), expected, "{url}");
}

#[test]
fn broker_urls_are_read_strictly() {
    check_url("mqtts://b", Some("mqtts://b:8883"));
    check_url("mqtt://[::1]:18", Some("mqtt://[::1]:18"));
    check_url("mqtt://[::1]/", Some("mqtt://[::1]:1883"));
    for url in
        ["b:1883", "http://b", "mqtt://", "mqtt://b:0", "mqtt://b:x", "mqtt://u:p@b", "mqtt://b/x", "mqtt://[::1]x"]
    {
        check_url(url, None);
    }
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let error = toml::from_str::<ConfigFile>("[http]\nlissen = 'x'").unwrap_err().to_string();
    assert!(error.contains("lissen"), "{error}");
}

#[test]
fn values_that_mean_nothing_name_their_key() {
    assert!(refusal("fleet = 'A B'").starts_with("`fleet` is `A B`"));
    assert!(refusal("topic_prefix = 'a/#'").starts_with("`topic_prefix`"));
    assert!(refusal("[http]\nlisten = 'here'").starts_with("`http.listen` is `here`"));
}

#[test]
fn the_installed_sample_names_every_key_and_states_the_defaults() {
    let sample = include_str!("../../systemd/controller.toml");
    assert_eq!(resolve(sample).unwrap().data_dir, Path::new("/var/lib/fieldpost"));
    let meant = |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let uncommented: Vec<&str> =
        sample.lines().map(|line| line.strip_prefix("# ").filter(|rest| meant(rest)).unwrap_or(line)).collect();
    let mut file: ConfigFile = toml::from_str(&uncommented.join("\n")).unwrap();
    assert!(!format!("{file:?}").contains("None"), "a key is missing: {file:?}");
    let broker = file.broker.take().unwrap();
    assert!(broker.username.and(broker.password_file).and(broker.ca).and(broker.advertise).is_some());

    let said = Config::resolve(file, Overrides::default(), Path::new("/d"), |_| None).unwrap();
    let silent = resolve("").unwrap();
    let Broker::Embedded { listen, max_clients, advertise_host: Some(_) } = said.broker else { panic!("{said:?}") };
    // These are examples: they have no default.
    let broker = Broker::Embedded { listen, max_clients, advertise_host: None };
    assert_eq!(Config { data_dir: silent.data_dir.clone(), broker, tls: None, ..said }, silent);
}
