//! Which channels there are, and who is asked through which.

use std::collections::{BTreeMap, BTreeSet};

use countersign_classify::Detectors;
use countersign_schemas::Approval;
use countersign_sdk::channel::Recipient;
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::{Env, Registry};
use serde_json::Value;

use super::{Configured, Notifier};
use crate::approval::approvers as who_may_answer;
use crate::config::{ApproverSettings, Config, Problem, channel_settings_of, connector_kind, rooms_of};

/// The room of every group that has none of its own.
const EVERY_GROUP: &str = "*";

/// Builds every configured channel.
///
/// # Errors
///
/// Every [`Problem`] that any of them, or an approver, has.
pub fn connect(
    config: &Config,
    registry: &Registry,
    egress: &Egress,
    keys: &KeySets,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Notifier, Vec<Problem>> {
    let mut problems = approvers(config);
    let mut channels = BTreeMap::new();
    for (name, section) in &config.channels {
        let env = Env { egress, instance: name, keys, lookup, public_url: &config.server.public_url };
        let Some(spec) = registry.channel(connector_kind(name, section)) else { continue };
        let rooms = rooms_of(section);
        let traits = (spec.traits)();
        let at = format!("channels.{name}");
        if !rooms.is_empty() && !traits.rooms {
            let problem =
                "this kind of channel asks people one by one; give approvers their own address".into();
            problems.push(Problem { at: format!("{at}.rooms"), problem });
        }
        let settings = section.as_object().map(channel_settings_of).unwrap_or_default();
        match (spec.connect)(Value::Object(settings), &env) {
            Ok(channel) => {
                channels.insert(name.clone(), Configured { channel, rooms, traits });
            }
            Err(error) => problems.push(Problem { at, problem: error.to_string() }),
        }
    }
    let detectors = Detectors::builtin().with_rules(&config.context.detectors);
    let detectors = detectors.map_err(|errors| {
        problems.push(Problem { at: "context.detectors".into(), problem: errors.to_string() })
    });
    match detectors {
        Ok(detectors) if problems.is_empty() => Ok(Notifier {
            approvers: config.approvers.clone(),
            board: tokio::sync::Mutex::default(),
            channels,
            detectors,
            seen: std::sync::Mutex::default(),
        }),
        _ => Err(problems),
    }
}

/// An id in a channel is one person's: otherwise it could not be told who answered.
fn approvers(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut taken = BTreeMap::new();
    for (name, approver) in &config.approvers {
        for (channel, address) in &approver.channels {
            let at = format!("approvers.{name}.channels.{channel}");
            if !config.channels.contains_key(channel) {
                problems.push(Problem { at, problem: "there is no such channel".into() });
            } else if let Some(other) = taken.insert((channel, address.to_lowercase()), name) {
                problems.push(Problem { at, problem: format!("is also the address of `{other}`") });
            }
        }
    }
    problems
}

/// Whom to ask in which channel. A group's room, where it has one, stands for its members.
pub(super) fn recipients(
    channels: &BTreeMap<String, Configured>,
    approvers: &BTreeMap<String, ApproverSettings>,
    approval: &Approval,
) -> BTreeSet<(String, Recipient)> {
    let wanted = who_may_answer(approval);
    let groups: Vec<_> = wanted.iter().filter_map(|name| name.strip_prefix("group:")).collect();
    let mut found = BTreeSet::new();
    for (name, configured) in channels {
        let of = |group: &str| configured.rooms.get(group).or_else(|| configured.rooms.get(EVERY_GROUP));
        let mut rooms: BTreeSet<_> = groups.iter().filter_map(|group| of(group)).collect();
        if wanted.is_empty() {
            rooms.extend(configured.rooms.get(EVERY_GROUP));
        }
        let in_room = |approver: &ApproverSettings| {
            (wanted.is_empty() && !rooms.is_empty())
                || groups
                    .iter()
                    .any(|group| of(group).is_some() && approver.groups.iter().any(|own| own == group))
        };
        for (who, approver) in approvers {
            let by_name = wanted.iter().any(|one| one.strip_prefix("user:").unwrap_or(one) == who);
            let by_group = groups.iter().any(|group| approver.groups.iter().any(|own| own == group));
            let asked = wanted.is_empty() || by_name || by_group;
            let Some(address) = approver.channels.get(name).filter(|_| asked) else { continue };
            if by_name || !in_room(approver) {
                found.insert((name.clone(), Recipient { address: address.clone(), room: false }));
            }
        }
        let room = |address: &String| (name.clone(), Recipient { address: address.clone(), room: true });
        found.extend(rooms.into_iter().map(room));
    }
    found
}
