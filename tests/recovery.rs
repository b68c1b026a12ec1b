//! Connection state recovery, case by case, with the unmodified official client; and what only a client that lies or keeps
//! less than the official one can try. [`storm`] has many clients come and go under load.

mod foreign_sessions;
mod rows;
mod storm;
