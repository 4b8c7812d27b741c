//! Whether a box can run a release, by what it says it is. What it has not said is not held against it: the agent
//! checks again.

use fieldpost_shared::bundle::manifest::Requirements;
use fieldpost_shared::wire::v1::Inventory;

/// Why a box cannot run a release; none when nothing speaks against it.
#[must_use]
pub(super) fn unfit(requirements: &Requirements, inventory: &Inventory) -> Option<String> {
    let arch = &inventory.arch;
    if !arch.is_empty() && !requirements.arch.is_empty() && !requirements.arch.contains(arch) {
        return Some(format!("its architecture is {arch}, the release is for {}", requirements.arch.join(", ")));
    }
    if inventory.ram_mib > 0 && inventory.ram_mib < requirements.ram_mib {
        return Some(format!("it has {} MiB of memory, the release needs {}", inventory.ram_mib, requirements.ram_mib));
    }
    let agent = semver::Version::parse(&inventory.agent_version).ok()?;
    let wanted = requirements.agent.as_ref().filter(|wanted| !wanted.matches(&agent))?;
    Some(format!("its agent is {agent}, the release needs {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edit: impl Fn(&mut Inventory), expected: Option<&str>) {
        let requirements = Requirements {
            arch: vec!["aarch64".into(), "arm".into()],
            ram_mib: 512,
            agent: Some(">=0.2".parse().unwrap()),
            ..Requirements::default()
        };
        let mut inventory =
            Inventory { arch: "arm".into(), ram_mib: 512, agent_version: "0.2.0".into(), ..Inventory::default() };
        edit(&mut inventory);
        let found = unfit(&requirements, &inventory);
        assert!(found.as_deref().map(|why| expected.is_some_and(|e| why.contains(e))) != Some(false), "{found:?}");
        assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
    }

    #[test]
    fn a_box_that_has_everything_fits() {
        check(|_| (), None);
    }

    #[test]
    fn what_a_box_lacks_is_named() {
        check(|i| i.arch = "x86_64".into(), Some("architecture is x86_64"));
        check(|i| i.ram_mib = 511, Some("511 MiB"));
        check(|i| i.agent_version = "0.1.9".into(), Some("agent is 0.1.9"));
    }

    #[test]
    fn what_a_box_has_not_said_is_not_held_against_it() {
        check(|i| *i = Inventory::default(), None);
    }
}
