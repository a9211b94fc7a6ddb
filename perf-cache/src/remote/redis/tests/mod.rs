mod basics;
mod bus;
mod faults;
mod frames;
mod history;
mod journal;
mod speed;
mod support;
