use super::*;
use crate::cli::test_context;
use fieldpost_shared::trust::RootError;

struct Fleet {
    dir: tempfile::TempDir,
    context: Context,
}

/// A data directory as a first start leaves it: keys 1 (root), 2 (publisher), 3 (controller).
fn fleet() -> Fleet {
    let dir = tempfile::tempdir().unwrap();
    let trust = dir.path().join("trust");
    std::fs::create_dir(&trust).unwrap();
    for (seed, role) in [(1, "root"), (2, "publisher"), (3, "controller")] {
        let key = SecretKey::from_seed(&[seed; 32]);
        fieldpost_shared::durable::write_secret(&trust, &format!("{role}.key"), key.to_file(role).as_bytes()).unwrap();
    }
    let context = test_context(dir.path());
    let path = |role: &str| trust.join(format!("{role}.key")).to_string_lossy().into_owned();
    let init = InitArgs {
        fleet: "f".parse().unwrap(),
        root: vec![path("root")],
        publisher: vec![path("publisher")],
        controller: path("controller"),
        root_threshold: 1,
        publisher_threshold: 1,
        expires_in: Duration::from_secs(730 * 86_400),
        sign: vec![path("root").into()],
        out: trust.join(root_name(1)),
    };
    init_root(init, &context).unwrap();
    Fleet { dir, context }
}

fn next(out: Option<PathBuf>) -> NextArgs {
    NextArgs { from: None, sign: vec![], expires_in: Duration::from_secs(30 * 86_400), out }
}

fn public(seed: u8) -> String {
    SecretKey::from_seed(&[seed; 32]).public().to_base64()
}

impl Fleet {
    fn run(&self, command: TrustCommand) -> Result<Exit, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(TrustArgs { command }, &self.context)).map_err(|failure| failure.to_string())
    }

    fn newest(&self) -> SignedRoot {
        newest_root(&self.context).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn a_publisher_is_rotated_and_the_controller_gets_the_next_version() {
    let fleet = fleet();
    let old = fleet.newest().metadata.publisher.keys[0].id().short();
    fleet.run(TrustCommand::Rotate { role: RoleName::Publisher, old, new: public(9), next: next(None) }).unwrap();
    let root = fleet.newest();
    assert_eq!(root.metadata.version, 2);
    assert_eq!(root.metadata.publisher.keys, [SecretKey::from_seed(&[9; 32]).public()]);
}

#[test]
fn a_threshold_across_two_safes_is_signed_piece_by_piece() {
    let fleet = fleet();
    let add = TrustCommand::Add { role: RoleName::Root, key: public(7), threshold: Some(2), next: next(None) };
    // The new root key has not signed: such a version is not installed.
    let refused = fleet.run(add).unwrap_err();
    assert!(refused.contains("cannot install root version 2") && refused.contains("1 of 2"), "{refused}");
    assert_eq!(fleet.newest().metadata.version, 1);

    let out = fleet.path("2.root.json");
    let next = next(Some(out.clone()));
    fleet.run(TrustCommand::Add { role: RoleName::Root, key: public(7), threshold: Some(2), next }).unwrap();
    let key = SecretKey::from_seed(&[7; 32]).to_file("root");
    fieldpost_shared::durable::write_secret(fleet.dir.path(), "b.key", key.as_bytes()).unwrap();
    fleet.run(TrustCommand::Sign { file: out.clone(), sign: vec![fleet.path("b.key")] }).unwrap();
    fleet.run(TrustCommand::Verify { file: out.clone(), after: None }).unwrap();
    fleet.run(TrustCommand::Install { file: out }).unwrap();
    assert_eq!(fleet.newest().metadata.version, 2);
}

#[test]
fn the_controllers_own_key_cannot_be_taken_away_under_its_feet() {
    let fleet = fleet();
    let old = fleet.newest().metadata.controller.keys[0].id().to_string();
    let rotate = TrustCommand::Rotate { role: RoleName::Controller, old, new: public(9), next: next(None) };
    let refused = fleet.run(rotate).unwrap_err();
    assert!(refused.contains("does not let"), "{refused}");
    assert_eq!(fleet.newest().metadata.version, 1);
}

#[test]
fn a_release_is_revoked_by_its_digest() {
    let fleet = fleet();
    let releases = vec![Digest::of(b"bad").to_string()];
    fleet.run(TrustCommand::Revoke { releases, next: next(None) }).unwrap();
    assert_eq!(fleet.newest().metadata.revoked, [Digest::of(b"bad")]);
    let refused = fleet.run(TrustCommand::Revoke { releases: vec!["digits".into()], next: next(None) }).unwrap_err();
    assert!(refused.contains("neither NAME@VERSION, nor a bundle, nor"), "{refused}");
}

#[test]
fn a_release_is_revoked_by_its_name_which_the_controller_knows() {
    let fleet = fleet();
    let named = TrustCommand::Revoke { releases: vec!["digits@1.2.0".into()], next: next(None) };
    let refused = fleet.run(named).unwrap_err();
    assert!(refused.contains("read the release digits@1.2.0"), "the controller is asked: {refused}");
}

#[test]
fn a_forged_version_in_the_directory_is_not_believed() {
    let fleet = fleet();
    let mut forged = fleet.newest();
    forged.metadata.version = 2;
    let forged = SignedRoot::sign(forged.metadata, &[&SecretKey::from_seed(&[66; 32])]).unwrap();
    write_root(&forged, &fleet.path("trust/2.root.json")).unwrap();
    assert!(matches!(
        complete(&forged, Some(&read_root(&fleet.path("trust/1.root.json")).unwrap().metadata)),
        Err(RootError::Signatures { .. })
    ));
    let refused = newest_root(&fleet.context).unwrap_err().to_string();
    assert!(refused.contains("is not believed"), "{refused}");
}

#[test]
fn without_the_root_key_the_keys_must_be_named() {
    let fleet = fleet();
    std::fs::remove_file(fleet.path("trust/root.key")).unwrap();
    let refused = fleet.run(TrustCommand::Renew { next: next(None) }).unwrap_err();
    assert!(refused.contains("name the root keys with --sign"), "{refused}");
    let absent = newest_root(&test_context(&fleet.path("elsewhere"))).unwrap_err();
    assert_eq!(absent.exit(), Exit::Usage);
}

#[test]
fn a_root_lives_an_hour_to_ten_years() {
    let fleet = fleet();
    for days in [0, 3_651, 3_000_000] {
        let renewal = NextArgs { expires_in: Duration::from_secs(days * 86_400), ..next(None) };
        assert!(fleet.run(TrustCommand::Renew { next: renewal }).unwrap_err().contains("1h to 3650d"), "{days}");
    }
    assert_eq!(fleet.newest().metadata.version, 1);
}
