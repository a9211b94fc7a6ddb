mod basics;
mod bus;
mod faults;
mod frames;
mod journal;
mod speed;
mod support;
