//! What is known of the rollout and what the person looks at; what a key means. No terminal, no clock, no network.

use super::draw;
use crate::rollout::explain::Told;
use crate::rollout::plot::{Series, series};
use crate::rollout::view::{MemberView, RolloutDetail, Standing};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fieldpost_shared::time::Timestamp;
use std::collections::VecDeque;

/// Events that are kept to be scrolled through; the rest is told by `rollout explain`.
pub(super) const KEPT_EVENTS: usize = 5_000;

/// A part of the view that can be scrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Panel {
    Devices,
    Gates,
    Metrics,
    Events,
}

impl Panel {
    pub(super) const ALL: [Self; 4] = [Self::Devices, Self::Gates, Self::Metrics, Self::Events];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Devices => "Devices",
            Self::Gates => "Gates",
            Self::Metrics => "Metrics",
            Self::Events => "Events",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    fn step(self, forward: bool) -> Self {
        let count = Self::ALL.len();
        let next = if forward { self.index() + 1 } else { self.index() + count - 1 };
        Self::ALL.get(next % count).copied().unwrap_or(self)
    }
}

/// Something that changes the rollout, once a person has confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Pause,
    Resume { accept: bool },
    Approve,
    Rollback,
}

impl Ask {
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume { .. } => "resume",
            Self::Approve => "approve",
            Self::Rollback => "rollback",
        }
    }
}

/// What the loop has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Leave,
    Do(Ask),
}

/// What the keys are for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Looking.
    Look,
    /// Typing what to search for.
    Search,
    /// Answering whether it is meant.
    Confirm(Ask),
    /// Reading what the keys are.
    Help,
}

/// Whether the controller answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    Away { since: Timestamp, why: String },
}

/// Everything that a picture is made of.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// The rollout; its devices are in `devices`.
    pub(super) detail: RolloutDetail,
    /// Its devices, in order.
    pub(super) devices: Vec<MemberView>,
    /// Its events, oldest first.
    pub(super) events: VecDeque<Told>,
    /// What the looks among them showed, by metric.
    pub(super) series: Vec<Series>,
    pub(super) link: Link,
    /// By the controller's clock.
    pub(super) now: Timestamp,
    /// Columns and rows of the terminal.
    pub(super) size: (u16, u16),
    pub(super) color: bool,
    pub(super) mode: Mode,
    pub(super) panel: Panel,
    /// Lines scrolled away: from the top, of the events from the bottom.
    pub(super) scrolled: [usize; Panel::ALL.len()],
    /// Devices of one standing alone.
    pub(super) filter: Option<Standing>,
    /// Devices whose name, state or failure has this text alone.
    pub(super) search: String,
    /// What the last command came to.
    pub(super) said: Option<String>,
}

impl Model {
    pub(super) fn new(mut detail: RolloutDetail, now: Timestamp, size: (u16, u16), color: bool) -> Self {
        Self {
            devices: std::mem::take(&mut detail.devices),
            detail,
            events: VecDeque::new(),
            series: Vec::new(),
            link: Link::Up,
            now,
            size,
            color,
            mode: Mode::Look,
            panel: Panel::Devices,
            scrolled: [0; Panel::ALL.len()],
            filter: None,
            search: String::new(),
            said: None,
        }
    }

    /// Takes in how things stand.
    pub(super) fn stands(&mut self, detail: RolloutDetail) {
        self.detail = detail;
        self.link = Link::Up;
        self.clamp();
    }

    /// Takes in what happened.
    pub(super) fn happened(&mut self, events: Vec<Told>) {
        let newest = self.events.back().map_or(0, |told| told.sequence);
        self.events.extend(events.into_iter().filter(|told| told.sequence > newest));
        let surplus = self.events.len().saturating_sub(KEPT_EVENTS);
        self.events.drain(..surplus);
        self.series = series(self.events.iter().map(|told| (told.at, &told.event)));
        self.link = Link::Up;
    }

    /// The controller does not answer.
    pub(super) fn away(&mut self, why: String) {
        let since = if let Link::Away { since, .. } = &self.link { *since } else { self.now };
        self.link = Link::Away { since, why };
    }

    /// Devices that the filter and the search leave.
    pub(super) fn shown(&self) -> Vec<&MemberView> {
        let wanted = self.search.to_lowercase();
        let matches = |view: &&MemberView| {
            let standing = Standing::of(&view.member);
            let has = |text: &str| text.to_lowercase().contains(&wanted);
            self.filter.is_none_or(|filter| filter == standing)
                && (wanted.is_empty()
                    || has(view.device.as_str())
                    || has(standing.name())
                    || has(&view.member.stratum)
                    || view.member.failure.as_ref().is_some_and(|failure| has(&failure.detail)))
        };
        self.devices.iter().filter(matches).collect()
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Some(Action::Leave);
        }
        self.said = None;
        let action = match self.mode {
            Mode::Search => {
                self.type_search(key.code);
                None
            }
            Mode::Confirm(ask) => self.confirm(ask, key.code),
            Mode::Help => {
                self.mode = Mode::Look;
                None
            }
            Mode::Look => self.look(key.code),
        };
        self.clamp();
        action
    }

    fn type_search(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(c) if self.search.len() < 60 => self.search.push(c),
            KeyCode::Backspace => drop(self.search.pop()),
            KeyCode::Enter => self.mode = Mode::Look,
            KeyCode::Esc => {
                self.search.clear();
                self.mode = Mode::Look;
            }
            _ => {}
        }
    }

    fn confirm(&mut self, ask: Ask, code: KeyCode) -> Option<Action> {
        self.mode = Mode::Look;
        match (ask, code) {
            (_, KeyCode::Char('y' | 'Y')) => Some(Action::Do(ask)),
            (Ask::Resume { .. }, KeyCode::Char('s' | 'S')) => Some(Action::Do(Ask::Resume { accept: true })),
            _ => {
                self.said = Some("nothing was done".to_owned());
                None
            }
        }
    }

    fn look(&mut self, code: KeyCode) -> Option<Action> {
        let page = draw::areas(self).height(self.panel).max(2) - 1;
        match code {
            KeyCode::Char('q') => return Some(Action::Leave),
            KeyCode::Esc if self.filter.is_none() && self.search.is_empty() => {}
            KeyCode::Esc => {
                self.search.clear();
                self.filter = None;
            }
            KeyCode::Tab | KeyCode::Right => self.panel = self.panel.step(true),
            KeyCode::BackTab | KeyCode::Left => self.panel = self.panel.step(false),
            KeyCode::Up | KeyCode::Char('k') => self.scroll(true, 1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll(false, 1),
            KeyCode::PageUp => self.scroll(true, page),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll(false, page),
            KeyCode::Home | KeyCode::Char('g') => self.scroll(true, usize::MAX),
            KeyCode::End | KeyCode::Char('G') => self.scroll(false, usize::MAX),
            KeyCode::Char('/') => {
                self.panel = Panel::Devices;
                self.mode = Mode::Search;
            }
            KeyCode::Char('f') => {
                self.panel = Panel::Devices;
                self.filter = self.next_filter();
            }
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('p') => self.ask(Ask::Pause),
            KeyCode::Char('r') => self.ask(Ask::Resume { accept: false }),
            KeyCode::Char('a') => self.ask(Ask::Approve),
            KeyCode::Char('b') => self.ask(Ask::Rollback),
            _ => {}
        }
        None
    }

    /// Asks whether it is meant, where it makes sense; the controller has the last word.
    fn ask(&mut self, ask: Ask) {
        let state = self.detail.summary.state.as_str();
        let sense = match ask {
            Ask::Pause => self.detail.summary.active && !matches!(state, "paused" | "rolling-back"),
            Ask::Resume { .. } => state == "paused",
            Ask::Approve => state == "awaiting-approval",
            Ask::Rollback => !matches!(state, "rolling-back" | "rolled-back" | "aborted-reverted"),
        };
        if sense {
            self.mode = Mode::Confirm(ask);
        } else {
            self.said = Some(format!("it is {state}: there is nothing to {}", ask.verb()));
        }
    }

    /// The next standing that some device has; behind the last, all.
    fn next_filter(&self) -> Option<Standing> {
        let from = self.filter.map_or(0, |filter| {
            Standing::ALL.iter().position(|standing| *standing == filter).map_or(0, |place| place + 1)
        });
        let has = |standing: &&Standing| self.devices.iter().any(|view| Standing::of(&view.member) == **standing);
        Standing::ALL.iter().skip(from).find(has).copied()
    }

    fn scroll(&mut self, up: bool, lines: usize) {
        // The newest event is at the foot, where the eye begins; everything else begins at the top.
        let back = up == (self.panel == Panel::Events);
        if let Some(scrolled) = self.scrolled.get_mut(self.panel.index()) {
            *scrolled = if back { scrolled.saturating_add(lines) } else { scrolled.saturating_sub(lines) };
        }
    }

    /// Keeps what is scrolled away to what there is.
    pub(super) fn clamp(&mut self) {
        let areas = draw::areas(self);
        for panel in Panel::ALL {
            let most = draw::length(self, panel, &areas).saturating_sub(areas.height(panel));
            if let Some(scrolled) = self.scrolled.get_mut(panel.index()) {
                *scrolled = (*scrolled).min(most);
            }
        }
    }
}
