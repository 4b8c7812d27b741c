//! The page at `/`: what is sent, and what a browser makes of it.

use super::super::Model;
use super::super::testing::FakeModel;
use super::swap::{digits, folder};
use super::{LONG, Running, start};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

#[tokio::test]
async fn the_page_is_one_file_with_a_strict_policy() {
    let page = Running::serving(FakeModel::new("1.0.0")).await.get("/").await;
    assert_eq!((page.status, &page.headers["content-type"]), (200, &"text/html; charset=utf-8".parse().unwrap()));
    let policy = page.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn the_page_asks_what_is_live() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let shown = server.get("/page/models").await.json();
    assert_eq!(
        (&shown[0]["name"], &shown[0]["version"], &shown[0]["takes"]),
        (&json!("digits"), &json!("1.0.0"), &json!("image"))
    );
    assert_eq!(shown[0]["inputs"][0], json!({ "name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8] }));
}

/// Debian's `chromium-driver`, on a port of its own choosing, ended with this.
struct Browser {
    base: String,
    client: reqwest::Client,
    driver: Child,
    session: String,
    _home: tempfile::TempDir,
}

const DRIVER: &str = "/usr/bin/chromedriver";

/// Where a browser must be, and is not, the test fails; elsewhere it says that it was passed over.
#[allow(clippy::disallowed_methods, reason = "whether peers are required is the environment's word, as in the suite")]
fn is_passed_over() -> bool {
    if Path::new(DRIVER).exists() {
        return false;
    }
    assert!(std::env::var("FIELDPOST_REQUIRE_PEERS").is_err(), "{DRIVER} is required here: install chromium-driver");
    eprintln!("PASSED OVER: no {DRIVER}: the page is not tried in a browser (Debian: chromium-driver)");
    true
}

impl Browser {
    async fn open(client: reqwest::Client) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut driver = Command::new(DRIVER)
            .arg("--port=0")
            .env("HOME", home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = tokio::time::timeout(LONG, async {
            loop {
                let line = lines
                    .next_line()
                    .await
                    .unwrap()
                    .expect("chromedriver says its port (it does not start under a small `ulimit -v`)");
                let said = line.split_once("started successfully on port ").map(|(_, port)| port.trim_end_matches('.'));
                if let Some(port) = said {
                    return port.parse::<u16>().unwrap();
                }
            }
        });
        let base = format!("http://127.0.0.1:{}", port.await.expect("chromedriver starts"));
        let mut browser = Self { base, client, driver, session: String::new(), _home: home };
        let profile = format!("--user-data-dir={}", browser._home.path().join("profile").display());
        let args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", profile.as_str()];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:loggingPrefs": { "browser": "ALL" }, "goog:chromeOptions": { "args": args }
        } } });
        let session = browser.call("", Some(wanted)).await;
        browser.session = format!("/{}", session["sessionId"].as_str().expect("a session"));
        browser
    }

    /// One command of W3C WebDriver.
    async fn call(&self, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/session{}{path}", self.base, self.session);
        let request = match body {
            Some(body) => self.client.post(url).header("content-type", "application/json").body(body.to_string()),
            None => self.client.get(url),
        };
        let text = request.timeout(Duration::from_secs(60)).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {text}");
        answer["value"].clone()
    }

    async fn run(&self, script: &str) -> Value {
        self.call("/execute/sync", Some(json!({ "script": script, "args": [] }))).await
    }

    /// Waits until a script says something that is not null or false.
    async fn until(&self, script: &str) -> Value {
        let poll = async {
            loop {
                let found = self.run(script).await;
                if !found.is_null() && found != json!(false) && found != json!("") {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, poll).await.unwrap_or_else(|_| panic!("never: {script}"))
    }

    async fn find(&self, css: &str) -> String {
        let found = self.call("/element", Some(json!({ "using": "css selector", "value": css }))).await;
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    async fn keys(&self, css: &str, text: &str) {
        let element = self.find(css).await;
        self.call(&format!("/element/{element}/value"), Some(json!({ "text": text }))).await;
    }

    async fn click(&self, css: &str) {
        let element = self.find(css).await;
        self.call(&format!("/element/{element}/click"), Some(json!({}))).await;
    }

    async fn close(mut self) {
        drop(self.client.delete(format!("{}/session{}", self.base, self.session)).send().await);
        self.driver.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_browser_a_picture_is_recognised_and_the_truth_is_told() {
    if is_passed_over() {
        return;
    }
    let server = start().await;
    server.registry.install(digits("digits-1.1", "1.1.0") as Arc<dyn Model>);
    let browser = Browser::open(server.client.clone()).await;
    browser.call("/url", Some(json!({ "url": server.url("/") }))).await;
    let shown = browser.until("return document.querySelector('#models h2') && document.body.innerText").await;
    assert!(
        ["digits", "1.1.0", "image: FP32 [n, 1, 8, 8]"].iter().all(|text| shown.as_str().unwrap().contains(text)),
        "{shown}"
    );
    let picture = folder("digits-1.1").join("samples/digit-7.png").canonicalize().unwrap();
    browser.keys("#file", picture.to_str().unwrap()).await;
    browser.click("#form button").await;
    let answer = browser.until("return document.querySelector('#answer').textContent").await;
    assert!(answer.as_str().unwrap().starts_with("7 ("), "{answer}");
    browser.keys("#label", "7").await;
    browser.click("#truth button").await;
    assert_eq!(browser.until("return document.querySelector('#told').textContent").await, "it was right");
    // The plot follows what is answered while it is looked at.
    for _ in 0..50 {
        browser.click("#form button").await;
        if browser.run("return document.querySelector('#p50').getAttribute('points') !== ''").await == json!(true) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    browser.until("return document.querySelector('#p50').getAttribute('points')").await;
    let console = browser.call("/se/log", Some(json!({ "type": "browser" }))).await;
    assert_eq!(console, json!([]), "no error, and nothing that the policy stopped");
    browser.close().await;
}
