//! Ids that nobody can guess and no two things share.

/// 128 random bits, in hex.
pub fn new_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    hex::encode(bytes)
}
