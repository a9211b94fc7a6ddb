mod basics;
mod faults;
mod frames;
mod journal;
mod support;
