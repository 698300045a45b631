//! What waits, in a world where a run can be stopped before any of its calls, and where anybody can run before any of them.

mod answers;
mod races;
mod stage;
mod times;
