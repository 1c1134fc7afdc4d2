//! One fact a line, with the seconds since it began.

use std::time::Instant;

pub struct Story(Instant);

impl Story {
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Tells a fact; the lines after its first one are set below it.
    pub fn tell(&self, text: impl AsRef<str>) {
        let seconds = format!("{:7.1} s  ", self.0.elapsed().as_secs_f64());
        for (number, line) in text.as_ref().trim_end().lines().enumerate() {
            println!("{}{line}", if number == 0 { &seconds } else { "           " });
        }
    }
}
