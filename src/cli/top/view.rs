//! The screen of a picture. Pure: the same picture, options, size and time give the same screen.

#[cfg(test)]
pub(super) mod samples;

use leadgate::grpc::pb::{Quota, QuotaWindow};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline};
use tokio::time::Instant;

use super::history::percent;
use super::verdict::{Severity, Verdict};
use super::{ConnectionState, Picture, lines, text};

/// The smallest size in columns and rows that has all lines.
const MIN_WIDTH: u16 = 60;
const MIN_HEIGHT: u16 = 15;
/// The width of the names of lines.
const NAME: usize = 9;
/// The widest bar, and the highest history.
const MAX_BAR: usize = 60;
const MAX_HISTORY: u16 = 6;
/// The width of the classes of calls.
const QUEUES: u16 = 32;
const FOOTER: &str = "q quit   p pause   ? help";
const HELP: [&str; 13] = [
    "A bar shows one window of the quota:",
    "  █ slots in use   · free slots",
    "  ▒ reserved, or used by other integrations",
    "history: utilization of the last windows; a column",
    "  is the time of one window, 5 s or longer",
    "own: rate limit errors that own calls may have caused",
    "foreign: those that other integrations caused",
    "holds: pauses of all calls after such an error",
    "(+N): the change in the last minute",
    "",
    "q, Esc or Ctrl-C: quit   p: pause or continue",
    "",
    "? closes this help",
];

/// What the keys and the environment have chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct ViewOptions {
    pub(super) has_color: bool,
    pub(super) is_paused: bool,
    pub(super) has_help: bool,
}

impl ViewOptions {
    /// Colors repeat what texts and symbols say.
    fn color(self, color: Color) -> Style {
        match self.has_color {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Ok => self.color(Color::Green),
            Severity::Warning => self.color(Color::Yellow).add_modifier(Modifier::BOLD),
            Severity::Error => self.color(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Draws a picture.
pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture, options: ViewOptions, now: Instant) {
    let area = frame.area();
    if area.width < MIN_WIDTH || area.height < MIN_HEIGHT {
        draw_small(frame, area, picture, options, now);
        return;
    }
    let spare = area.height - MIN_HEIGHT;
    let gap = u16::from(spare >= 3);
    let history = (1 + (spare - 2 * gap) / 3).min(MAX_HISTORY);
    let rows = [1, 1, 1, gap, 1, 1, history, 1, 1, 1, gap].map(Constraint::Length);
    let rows = rows.into_iter().chain([Constraint::Min(5), Constraint::Length(1)]);
    let rows = Layout::vertical(rows).split(area);
    let show = |frame: &mut Frame<'_>, row: usize, line: Line<'_>| frame.render_widget(line, rows[row]);
    let width = usize::from(area.width);

    show(frame, 0, title(picture, options, width, now));
    show(frame, 1, source_line(picture, width));
    let Some((quota, _)) = &picture.latest else {
        return;
    };
    show(frame, 2, verdict_line(quota, options, width));
    show(frame, 4, window_line("calls", quota.calls.as_ref(), options, width));
    show(frame, 5, window_line("bulk", quota.bulk.as_ref(), options, width));
    draw_history(frame, rows[6], picture, quota, options, now);
    let parts = |name: &str, parts: Option<Vec<String>>| {
        let parts = parts.unwrap_or_else(|| vec!["unknown".to_owned()]);
        Line::raw(format!("{name:<NAME$}{}", text::joined(&parts, width - NAME)))
    };
    show(frame, 7, parts("breaker", quota.breaker.as_ref().map(lines::breaker)));
    show(frame, 8, parts("day", quota.day.as_ref().map(lines::day)));
    let refusals = lines::refusals(quota, picture.history.recent());
    show(frame, 9, parts("refusals", Some(refusals)));
    let [queues, callers] = Layout::horizontal([Constraint::Length(QUEUES), Constraint::Min(1)]).areas(rows[11]);
    draw_queues(frame, queues, quota);
    draw_callers(frame, callers, quota);
    show(frame, 12, Line::styled(FOOTER, Modifier::DIM));
    if picture.is_old(now) {
        let body = Rect::new(area.x, rows[2].y, area.width, rows[12].y - rows[2].y);
        frame.buffer_mut().set_style(body, Modifier::DIM);
    }
    if options.has_help {
        draw_help(frame, area);
    }
}

/// The tenant, and whether the picture is current. It is in reverse, which needs no color.
fn title(picture: &Picture, options: ViewOptions, width: usize, now: Instant) -> Line<'static> {
    let is_old = picture.is_old(now);
    let age = picture.age(now).map(|age| match is_old {
        true => format!("OLD: {}", text::seconds(age)),
        false => format!("{} s old", age.as_secs()),
    });
    let is_lost = matches!(picture.connection, ConnectionState::Lost(_));
    let mut state = Vec::new();
    if options.is_paused {
        state.push("PAUSED".to_owned());
    }
    let connection = match &picture.connection {
        ConnectionState::Lost(_) => "RECONNECTING",
        ConnectionState::Connecting => "connecting",
        ConnectionState::Connected => "connected",
    };
    state.push(connection.to_owned());
    state.extend(age);
    let state = text::shortened(&state.join(", "), width);
    let name = text::printable(
        &format!("leadgate top  {}", picture.source),
        width.saturating_sub(state.len() + 2),
    );
    let gap = width.saturating_sub(name.len() + state.len());
    let style = match is_old || is_lost {
        true => options.color(Color::Red).add_modifier(Modifier::BOLD),
        false => Style::new(),
    };
    let style = style.add_modifier(Modifier::REVERSED);
    Line::styled(format!("{name}{:gap$}{state}", ""), style)
}

/// The owner of the account, or why there is no connection.
fn source_line(picture: &Picture, width: usize) -> Line<'static> {
    Line::raw(match (&picture.connection, &picture.latest) {
        (ConnectionState::Lost(why), _) => text::printable(why, width),
        (_, Some((quota, _))) => text::joined(&lines::owner(quota), width),
        (_, None) => text::shortened("No response yet.", width),
    })
}

fn verdict_line(quota: &Quota, options: ViewOptions, width: usize) -> Line<'static> {
    let Verdict { severity, text } = Verdict::of(quota);
    let words = text::shortened(&format!("{}: {text}", severity.name()), width);
    Line::styled(words, options.severity(severity))
}

/// The first lines, for a terminal that is too small for all.
fn draw_small(frame: &mut Frame<'_>, area: Rect, picture: &Picture, options: ViewOptions, now: Instant) {
    let width = usize::from(area.width);
    let mut rows = vec![title(picture, options, width, now)];
    if let Some((quota, _)) = &picture.latest {
        rows.push(verdict_line(quota, options, width));
    }
    rows.push(Line::raw(format!(
        "The terminal is too small: {MIN_WIDTH}x{MIN_HEIGHT} is needed."
    )));
    frame.render_widget(Paragraph::new(rows), area);
}

/// A window: a bar, and its numbers.
fn window_line(name: &str, window: Option<&QuotaWindow>, options: ViewOptions, width: usize) -> Line<'static> {
    let Some(window) = window else {
        return Line::raw(format!("{name:<NAME$}unknown"));
    };
    let text_width = (width / 2).clamp(40, 90);
    let bar = width.saturating_sub(NAME + 1 + text_width).min(MAX_BAR);
    let [used, free, taken] = cells(window, bar);
    let is_full = window.effective > 0 && window.used >= window.effective;
    let severity = if is_full { Severity::Warning } else { Severity::Ok };
    let text = text::joined(&lines::window(window), width.saturating_sub(NAME + 1 + bar));
    Line::from(vec![
        Span::raw(format!("{name:<NAME$}")),
        Span::styled("█".repeat(used), options.severity(severity)),
        Span::raw("·".repeat(free)),
        Span::styled("▒".repeat(taken), options.color(Color::Magenta)),
        Span::raw(format!(" {text}")),
    ])
}

/// The parts of a bar: slots in use, free slots, and the calls of the limit that are not available. One slot in use has a cell.
fn cells(window: &QuotaWindow, width: usize) -> [usize; 3] {
    let (used, effective) = (i64::from(window.used.max(0)), i64::from(window.effective.max(0)));
    let all = used.max(effective).max(window.limit.into()).max(1);
    let part = |value: i64| {
        usize::try_from((value * width as i64 + all - 1) / all)
            .unwrap_or(0)
            .min(width)
    };
    let used_cells = part(used);
    let free = part(effective).saturating_sub(used_cells);
    [used_cells, free, width - used_cells - free]
}

fn draw_history(
    frame: &mut Frame<'_>,
    area: Rect,
    picture: &Picture,
    quota: &Quota,
    options: ViewOptions,
    now: Instant,
) {
    const VALUE: u16 = 6;
    let [name, value, bars] = Layout::horizontal([
        Constraint::Length(NAME as u16),
        Constraint::Length(VALUE),
        Constraint::Min(1),
    ])
    .areas(area);
    let history = picture.history.utilization(usize::from(bars.width), now);
    frame.render_widget(Line::raw("history"), name);
    let mut lines = vec![Line::raw(format!("{} %", percent(quota.utilisation)))];
    // The time of all columns, if there is a row for it.
    let span = picture.history.column().saturating_mul(u32::from(bars.width));
    lines.push(Line::raw(text::seconds(span)));
    frame.render_widget(Paragraph::new(lines), value);
    let sparkline = Sparkline::default()
        .data(history)
        .max(100)
        .style(options.color(Color::Cyan));
    frame.render_widget(sparkline, bars);
}

fn draw_queues(frame: &mut Frame<'_>, area: Rect, quota: &Quota) {
    let line = |class: &str, waiting: &str, oldest: &str| Line::raw(format!("{class:<14} {waiting:>7} {oldest:>7}"));
    let mut rows = vec![line("queue", "waiting", "oldest").style(Modifier::UNDERLINED)];
    for queue in lines::queues(quota) {
        let oldest = match queue.oldest.as_str() {
            "" => "-",
            oldest => oldest,
        };
        rows.push(line(&queue.class, &queue.waiting, oldest));
    }
    frame.render_widget(Paragraph::new(rows), area);
}

fn draw_callers(frame: &mut Frame<'_>, area: Rect, quota: &Quota) {
    const WAITING: usize = 9;
    let name_width = usize::from(area.width).saturating_sub(WAITING).min(64);
    let line = |name: &str, waiting: &str| {
        let name = text::shortened(name, name_width);
        Line::raw(format!("{name:<name_width$}{waiting:>WAITING$}"))
    };
    let mut rows = vec![line("caller", "waiting").style(Modifier::UNDERLINED)];
    let callers = lines::callers(quota, usize::from(area.height).saturating_sub(1));
    if callers.is_empty() {
        rows.push(Line::raw("no waiting calls"));
    }
    rows.extend(callers.iter().map(|(name, waiting)| line(name, waiting)));
    frame.render_widget(Paragraph::new(rows), area);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let box_area = area.centered(
        Constraint::Length(MIN_WIDTH - 4),
        Constraint::Length(HELP.len() as u16 + 2),
    );
    frame.render_widget(Clear, box_area);
    let lines: Vec<Line<'_>> = HELP.into_iter().map(Line::raw).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("help")), box_area);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    const OPTIONS: ViewOptions = ViewOptions {
        has_color: true,
        is_paused: false,
        has_help: false,
    };

    /// The screen of a picture some seconds after its last message.
    fn screen(picture: &Picture, options: ViewOptions, (width, height): (u16, u16), age: u64) -> TestBackend {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let at = picture.latest.as_ref().map_or_else(Instant::now, |(_, at)| *at);
        terminal
            .draw(|frame| draw(frame, picture, options, at + Duration::from_secs(age)))
            .unwrap();
        terminal.backend().clone()
    }

    fn shown(picture: &Picture, size: (u16, u16)) -> String {
        screen(picture, OPTIONS, size, 0).to_string()
    }

    #[test]
    fn the_smallest_terminal_has_all_lines() {
        insta::assert_snapshot!(shown(&samples::busy(), (60, 15)));
    }

    #[test]
    fn a_usual_terminal_has_gaps_and_a_higher_history() {
        insta::assert_snapshot!(shown(&samples::busy(), (80, 24)));
    }

    #[test]
    fn a_large_terminal_has_more_callers() {
        insta::assert_snapshot!(shown(&samples::busy(), (140, 40)));
    }

    #[test]
    fn an_outage_and_a_lost_connection_are_named() {
        let screen = screen(&samples::failing(), OPTIONS, (80, 24), 12);
        insta::assert_snapshot!(screen);
    }

    #[test]
    fn the_help_fits_the_smallest_terminal() {
        let options = ViewOptions {
            has_help: true,
            ..OPTIONS
        };
        insta::assert_snapshot!(screen(&samples::busy(), options, (60, 15), 0));
    }

    #[test]
    fn an_old_or_paused_picture_is_marked() {
        let picture = samples::busy();
        let title = |options, age| {
            let screen = screen(&picture, options, (80, 24), age).to_string();
            screen.lines().next().unwrap().to_owned()
        };
        assert!(title(OPTIONS, 2).contains("connected, 2 s old"));
        assert!(title(OPTIONS, 3).contains("connected, OLD: 3 s"));
        let paused = ViewOptions {
            is_paused: true,
            ..OPTIONS
        };
        assert!(title(paused, 0).contains("PAUSED, connected, 0 s old"));
    }

    #[test]
    fn without_colors_the_texts_are_the_same() {
        let options = ViewOptions {
            has_color: false,
            ..OPTIONS
        };
        for picture in [samples::busy(), samples::failing()] {
            let (plain, colored) = (
                screen(&picture, options, (80, 24), 5),
                screen(&picture, OPTIONS, (80, 24), 5),
            );
            let has_color = |screen: &TestBackend| screen.buffer().content.iter().any(|cell| cell.fg != Color::Reset);
            assert!(!has_color(&plain) && has_color(&colored));
            assert_eq!(plain.to_string(), colored.to_string());
        }
    }

    #[test]
    fn hostile_names_are_printable_and_stay_in_their_place() {
        let shown = shown(&samples::hostile(), (80, 24));
        assert!(shown.contains("?[2J?[31mevil"), "{shown}");
        assert!(!shown.contains('\u{1b}') && !shown.contains('漢'), "{shown}");
        // The numbers of all callers are in one column, which a wide name would move.
        let rows: Vec<&str> = shown
            .lines()
            .filter(|line| line.contains("waiting") || line.contains("7,0"))
            .collect();
        let ends: Vec<usize> = rows
            .iter()
            .map(|row| row.trim_end_matches(['"', ' ']).chars().count())
            .collect();
        assert_eq!(rows.len(), 6, "{shown}");
        assert!(ends.iter().all(|end| *end == ends[0]), "{shown}");
    }

    #[test]
    fn a_bar_shows_each_part_of_the_limit() {
        let window = |used, effective, limit| QuotaWindow {
            used,
            effective,
            limit,
            ..Default::default()
        };
        for (window, shown) in [
            (window(0, 25, 25), [0, 10, 0]),
            (window(1, 1000, 1000), [1, 9, 0]),
            (window(10, 20, 40), [3, 2, 5]),
            (window(25, 25, 25), [10, 0, 0]),
            (window(50, 25, 25), [10, 0, 0]),
            (window(0, 0, 0), [0, 0, 10]),
            (window(-5, i32::MIN, -1), [0, 0, 10]),
            (window(i32::MAX, i32::MAX, i32::MAX), [10, 0, 0]),
        ] {
            assert_eq!(cells(&window, 10), shown, "{window:?}");
        }
    }

    #[test]
    fn a_terminal_of_any_size_shows_any_picture() {
        let pictures = [samples::busy(), samples::absurd(), samples::hostile(), samples::empty()];
        for picture in &pictures {
            for size in [
                (0, 0),
                (1, 1),
                (59, 15),
                (60, 14),
                (60, 15),
                (5, 80),
                (300, 2),
                (500, 200),
            ] {
                for has_help in [false, true] {
                    screen(picture, ViewOptions { has_help, ..OPTIONS }, size, 1_000_000);
                }
            }
        }
        let small = shown(&pictures[0], (40, 10));
        assert!(small.contains("too small") && small.contains("WARNING"), "{small}");
    }

    proptest! {
        #[test]
        fn any_message_is_shown_with_printable_characters(
            values in prop::collection::vec(prop_oneof![any::<i64>(), -2_i64..200, Just(i64::MAX), Just(i64::MIN)], 24),
            name in any::<String>(),
            utilization in any::<f64>(),
            size in (60_u16..200, 15_u16..60),
        ) {
            let mut picture = samples::empty();
            for offset in 0..2 {
                samples::add(&mut picture, samples::any(&values[offset..], &name, utilization));
            }
            let shown = shown(&picture, size);
            prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{}", shown);
        }
    }
}
