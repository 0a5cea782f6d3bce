//! The terminal: shows the picture, reads the keys, and restores the terminal at every end.

use std::io::{self, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::view::{self, ViewOptions};
use super::{Picture, Update};

/// The interval at which the age of the picture is shown again.
const TICK: Duration = Duration::from_millis(500);
/// Maximum number of columns and of rows that are used.
const MAX_SIDE: u16 = 1_000;
/// The time after which the thread that reads keys checks whether the command has ended.
const INPUT_TIMEOUT: Duration = Duration::from_millis(100);

/// Whether the terminal is to be restored.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// A terminal that shows the picture. It is restored when the value is dropped, and before a panic is printed.
struct Screen(Terminal<CrosstermBackend<Stdout>>);

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Quit,
    Pause,
    Help,
}

impl Screen {
    fn open() -> io::Result<Self> {
        let default_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            default_hook(panic);
        }));
        enable_raw_mode()?;
        IS_OPEN.store(true, Ordering::SeqCst);
        let opened = execute!(io::stdout(), EnterAlternateScreen);
        let opened = opened.and_then(|()| {
            let viewport = Viewport::Fixed(area(size()?));
            Terminal::with_options(CrosstermBackend::new(io::stdout()), TerminalOptions { viewport })
        });
        opened.map(Self).inspect_err(|_| restore())
    }

    /// Draws a picture in the present size of the terminal.
    fn draw(&mut self, picture: &Picture, options: ViewOptions) -> io::Result<()> {
        let area = area(size()?);
        if area != self.0.get_frame().area() {
            self.0.resize(area)?;
        }
        self.0
            .draw(|frame| view::draw(frame, picture, options, Instant::now()))
            .map(drop)
    }
}

/// The part of a terminal of this size that is used. A terminal may have any size, and each cell costs memory.
fn area((width, height): (u16, u16)) -> Rect {
    Rect::new(0, 0, width.min(MAX_SIDE), height.min(MAX_SIDE))
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, once: a second time would move the cursor back to the first line after the command, over an error.
/// Errors are ignored, because the terminal may be closed.
pub(super) fn restore() {
    if IS_OPEN.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    }
}

/// Shows a picture and its updates until a key ends it.
pub(super) async fn run(mut live: Picture, mut updates: UnboundedReceiver<Update>) -> Result<(), String> {
    let failed = |error: io::Error| format!("using the terminal failed: {error}");
    let mut screen = Screen::open().map_err(failed)?;
    let mut events = events().map_err(failed)?;
    let mut options = ViewOptions {
        // https://no-color.org
        has_color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        is_paused: false,
        has_help: false,
    };
    let mut paused: Option<Picture> = None;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        options.is_paused = paused.is_some();
        let picture = paused.as_ref().unwrap_or(&live);
        screen.draw(picture, options).map_err(failed)?;
        let event = tokio::select! {
            Some(update) = updates.recv() => {
                live.apply(update, Instant::now());
                continue;
            }
            _ = tick.tick() => continue,
            event = events.recv() => event,
        };
        let event = event.unwrap_or_else(|| Err(io::Error::other("reading the keys ended")));
        match action(&event.map_err(failed)?) {
            Some(Action::Quit) => return Ok(()),
            Some(Action::Pause) if paused.take().is_none() => paused = Some(live.clone()),
            Some(Action::Help) => options.has_help = !options.has_help,
            Some(Action::Pause) | None => {}
        }
    }
}

fn action(event: &Event) -> Option<Action> {
    let Event::Key(key) = event else {
        return None;
    };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Action::Quit),
        KeyCode::Esc | KeyCode::Char('q' | 'Q') => Some(Action::Quit),
        KeyCode::Char('p' | 'P') => Some(Action::Pause),
        KeyCode::Char('?' | 'h' | 'H') => Some(Action::Help),
        _ => None,
    }
}

/// Reads keys and changes of the size in a thread, which ends with the receiver.
fn events() -> io::Result<UnboundedReceiver<io::Result<Event>>> {
    let (sender, receiver) = unbounded_channel();
    let read = move || {
        while !sender.is_closed() {
            let event = match event::poll(INPUT_TIMEOUT) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let failed = event.is_err();
            if sender.send(event).is_err() || failed {
                break;
            }
        }
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn a_terminal_of_an_absurd_size_is_used_in_part() {
        assert_eq!(area((80, 24)), Rect::new(0, 0, 80, 24));
        assert_eq!(area((u16::MAX, u16::MAX)), Rect::new(0, 0, 1_000, 1_000));
    }

    #[test]
    fn keys_quit_pause_and_show_the_help() {
        let key = |code, modifiers| action(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = |code| key(code, KeyModifiers::NONE);
        for quit in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(plain(quit), Some(Action::Quit));
        }
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(plain(KeyCode::Char('p')), Some(Action::Pause));
        assert_eq!(plain(KeyCode::Char('?')), Some(Action::Help));
        assert_eq!((plain(KeyCode::Char('c')), plain(KeyCode::Enter)), (None, None));
        assert_eq!(action(&Event::Resize(80, 24)), None);
    }
}
