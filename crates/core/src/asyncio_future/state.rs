//! What there is to know of a future, in as little room as it takes: there are many.

use std::{mem, slice, sync::Arc};

use pyo3::{exceptions::PyBaseException, prelude::*, types::PyTraceback};

use super::{Settlement, cancelled_error_class};
use crate::{lifecycle::Process, path::Path, task::Cancel};

pub(super) struct State {
    pub(super) outcome: Outcome,
    pub(super) extras: Extras,
}

/// One callback, the waiting task's wake-up, which is all that most futures ever have; or what is rare.
pub(super) enum Extras {
    Callback(Callback),
    /// `None` when there is nothing at all: a variant for that would take 8 bytes more.
    Rare(Option<Box<Rare>>),
}

#[derive(Default)]
pub(super) struct Rare {
    callbacks: Vec<Callback>,
    pub(super) cancel_requested: bool,
    pub(super) cancel_message: Option<Py<PyAny>>,
    /// The handle of the timer that bounds a cancellation.
    pub(super) timer: Option<Py<PyAny>>,
    /// The one that an exception had when it came, so that awaiting twice does not grow it.
    pub(super) traceback: Option<Py<PyTraceback>>,
}

impl State {
    pub(super) fn pending(task: Arc<dyn Cancel>) -> Self {
        Self { outcome: Outcome::Pending(task, Process::current()), extras: Extras::default() }
    }

    pub(super) fn is_done(&self) -> bool {
        !matches!(self.outcome, Outcome::Pending(..) | Outcome::Abandoned(..))
    }

    /// What runs behind it, if somebody wants its result.
    pub(super) fn task(&self) -> Option<&Arc<dyn Cancel>> {
        match &self.outcome {
            Outcome::Pending(task, _) => Some(task),
            _ => None,
        }
    }

    /// Whether it is pending, and what runs behind it runs in the process that has forked this one.
    pub(super) fn is_left_behind(&self) -> bool {
        match self.outcome {
            Outcome::Pending(_, process) | Outcome::Abandoned(_, process) => !process.is_current(),
            _ => false,
        }
    }

    /// Whether a cancellation that was asked for takes the place of what came meanwhile, as it does in a task.
    ///
    /// Not of an error that is the final word.
    pub(super) fn overrules(&self, outcome: &Outcome, final_word: bool) -> bool {
        let requested = self.extras.rare().is_some_and(|rare| rare.cancel_requested);
        match outcome {
            Outcome::Done(..) => requested,
            Outcome::Failed(..) => requested && !final_word,
            _ => false,
        }
    }

    pub(super) fn cancel_message(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        Some(self.extras.rare()?.cancel_message.as_ref()?.clone_ref(py))
    }
}

impl Default for Extras {
    fn default() -> Self {
        Self::Rare(None)
    }
}

impl Extras {
    pub(super) fn rare(&self) -> Option<&Rare> {
        match self {
            Self::Callback(_) => None,
            Self::Rare(rare) => rare.as_deref(),
        }
    }

    pub(super) fn rare_mut(&mut self) -> Option<&mut Rare> {
        match self {
            Self::Callback(_) => None,
            Self::Rare(rare) => rare.as_deref_mut(),
        }
    }

    pub(super) fn with_rare<T>(&mut self, f: impl FnOnce(&mut Rare) -> T) -> T {
        let mut rare = match mem::take(self) {
            Self::Rare(rare) => rare.unwrap_or_default(),
            Self::Callback(callback) => Box::new(Rare { callbacks: vec![callback], ..Rare::default() }),
        };
        let value = f(&mut rare);
        *self = Self::Rare(Some(rare));
        value
    }

    pub(super) fn callbacks(&self) -> &[Callback] {
        match self {
            Self::Callback(callback) => slice::from_ref(callback),
            Self::Rare(rare) => rare.as_ref().map_or(&[], |rare| &rare.callbacks),
        }
    }

    pub(super) fn add_callback(&mut self, callback: Callback) {
        match self {
            Self::Rare(None) => *self = Self::Callback(callback),
            _ => self.with_rare(|rare| rare.callbacks.push(callback)),
        }
    }

    pub(super) fn take_callbacks(&mut self) -> impl Iterator<Item = Callback> + use<> {
        let (only, all) = match mem::take(self) {
            Self::Callback(callback) => (Some(callback), Vec::new()),
            Self::Rare(mut rare) => {
                let all = rare.as_mut().map(|rare| mem::take(&mut rare.callbacks)).unwrap_or_default();
                *self = Self::Rare(rare);
                (None, all)
            }
        };
        only.into_iter().chain(all)
    }
}

pub(super) struct Callback {
    pub(super) function: Py<PyAny>,
    pub(super) context: Py<PyAny>,
}

/// Each knows what there is to know in that state, the name of the Rust function by its path or by the task: fields for
/// all of them would make every future larger.
pub(super) enum Outcome {
    /// With what runs behind it, and where that runs.
    Pending(Arc<dyn Cancel>, Process),
    /// Pending, and nobody wants its result.
    Abandoned(Path, Process),
    Done(Py<PyAny>, Path),
    Failed(Py<PyBaseException>, Path),
    /// With the exception, when it was the Rust future that raised it.
    Cancelled(Option<Py<PyBaseException>>, Path),
}

impl Outcome {
    /// The outcome, with the traceback of an exception.
    pub(super) fn of(py: Python<'_>, settlement: Settlement, path: Path) -> PyResult<(Self, Option<Py<PyTraceback>>)> {
        Ok(match settlement {
            Settlement::Done(value) => (Self::Done(value, path), None),
            Settlement::Cancelled => (Self::Cancelled(None, path), None),
            // As for a task whose coroutine raises it.
            Settlement::Failed(error) | Settlement::FailedForGood(error)
                if error.matches(py, cancelled_error_class(py)?)? =>
            {
                (Self::Cancelled(Some(error.into_value(py)), path), None)
            }
            Settlement::Failed(error) | Settlement::FailedForGood(error) => {
                let traceback = error.traceback(py).map(Bound::unbind);
                (Self::Failed(error.into_value(py), path), traceback)
            }
        })
    }

    pub(super) fn path(&self) -> Path {
        match self {
            Self::Pending(task, _) => task.path(),
            Self::Abandoned(path, _) | Self::Done(_, path) | Self::Failed(_, path) | Self::Cancelled(_, path) => *path,
        }
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_takes_little_room() {
        assert_eq!(size_of::<Outcome>(), 24);
        assert_eq!(size_of::<Extras>(), size_of::<Callback>());
        // With the head of a Python object and of the garbage collector, in Python's steps of 16, it is 96.
        assert_eq!(size_of::<super::super::AsyncioFuture>(), 56);
    }
}
