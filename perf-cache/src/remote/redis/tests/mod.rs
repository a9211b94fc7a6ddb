mod basics;
mod frames;
mod support;
