//! Protections that a test can take out one at a time, to see that whoever checks the books notices. Only with the feature
//! `sabotage`, which nothing but tests asks for: without it nothing here can be switched.

/// Something that keeps the books right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protection {
    /// A request id is kept with what was decided under it.
    Claims = 1,
    /// A refusal is kept, too.
    Refusals,
    /// Wallets are locked before they are read.
    Locks,
    /// No more is taken than is available.
    Cover,
    /// No more is given back than was taken.
    Refunds,
    /// A hold ends once.
    Holds,
    /// A frozen wallet gives nothing.
    Freezing,
    /// Orders that are carried out together are undone together.
    Together,
    /// Each change's hash stands on the one before it.
    Chain,
    /// What a wallet has held is what its open holds are.
    Setting,
}

impl Protection {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Claims,
        Self::Refusals,
        Self::Locks,
        Self::Cover,
        Self::Refunds,
        Self::Holds,
        Self::Freezing,
        Self::Together,
        Self::Chain,
        Self::Setting,
    ];
}

#[cfg(feature = "sabotage")]
mod switch {
    use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

    use super::Protection;

    static OFF: AtomicU8 = AtomicU8::new(0);
    static FELT: AtomicU64 = AtomicU64::new(0);

    /// Takes one protection out of this process and puts all others back.
    #[allow(clippy::as_conversions, reason = "a discriminant")]
    pub fn switch_off(protection: Option<Protection>) {
        FELT.store(0, Ordering::SeqCst);
        OFF.store(protection.map_or(0, |protection| protection as u8), Ordering::SeqCst);
    }

    /// How often the protection that is out was missing since then.
    pub fn felt() -> u64 {
        FELT.load(Ordering::SeqCst)
    }

    #[allow(clippy::as_conversions, reason = "a discriminant")]
    pub(crate) fn is_out(protection: Protection) -> bool {
        let out = OFF.load(Ordering::SeqCst) == protection as u8;
        if out {
            FELT.fetch_add(1, Ordering::SeqCst);
        }
        out
    }
}

#[cfg(feature = "sabotage")]
pub(crate) use switch::is_out;
#[cfg(feature = "sabotage")]
pub use switch::{felt, switch_off};

/// Whether a protection is out. None is.
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn is_out(_: Protection) -> bool {
    false
}
