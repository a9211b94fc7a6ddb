use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const TIME: &[u8; 14] = b"*1\r\n$4\r\nTIME\r\n";

/// A server or a network that closes what is idle does so to none while there are reads.
#[tokio::test(start_paused = true)]
async fn all_connections_are_used_in_turn() {
    let mut others = Vec::new();
    let wires = Wires::new(None, 0);
    for _ in 0..2 {
        let (here, other) = duplex(8);
        wires.add(Wire::over(here));
        others.push(other);
    }
    let (mut by_wire, mut beside) = ([0; 2], 0);
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let Some(mut wire) = wires.take() else {
            beside += 1;
            continue;
        };
        let socket = wire.wire.as_mut().unwrap().socket();
        socket.write_all(b"x").await.unwrap();
        wire.give_back();
        for (other, count) in others.iter_mut().zip(&mut by_wire) {
            let read = tokio::time::timeout(Duration::ZERO, other.read_u8()).await;
            *count += u32::from(read.is_ok());
        }
    }
    assert_eq!(beside, 6);
    assert_eq!(by_wire, [27, 27]);
    // Whoever finds none takes the other one.
    let both = (wires.take(), wires.take());
    assert!(both.0.is_some() && both.1.is_some() && wires.take().is_none());
}

/// Where packets are dropped after a while without any, or nobody is there any more.
#[tokio::test(start_paused = true)]
async fn something_is_said_on_those_without_use_and_one_that_does_not_answer_is_lost() {
    let wires = Wires::new(None, 0);
    let [mut answers, mut is_silent] = [(), ()].map(|()| {
        let (here, other) = duplex(100);
        wires.add(Wire::over(here));
        other
    });
    let within = Duration::from_millis(100);
    let heard = async {
        let mut asked = [0; 14];
        let mut said = 0;
        for round in 1..=3 {
            answers.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, TIME);
            // Even if it is not allowed.
            answers.write_all(b"-NOPERM\r\n").await.unwrap();
            said = round;
        }
        // Until that has come.
        sleep(within).await;
        said
    };
    let began = Instant::now();
    let said = tokio::select! {
        said = heard => said,
        () = wires.mend(within) => 0,
    };
    assert_eq!(said, 3);
    assert!(
        began.elapsed() < 3 * (AWAKE_EVERY + within),
        "{:?}",
        began.elapsed()
    );
    let mut asked = Vec::new();
    is_silent.read_to_end(&mut asked).await.unwrap();
    assert_eq!(asked, TIME);
    assert_eq!((wires.free(), wires.pool().there), (1, 1));
}

#[tokio::test]
async fn when_they_are_abolished_neither_those_in_use_nor_new_ones_are_used_again() {
    let wires = Wires::new(None, 0);
    let mut others = Vec::new();
    let mut wire = || {
        let (here, other) = duplex(8);
        others.push(other);
        Wire::over(here)
    };
    wires.add(wire());
    wires.add(wire());
    let taken = wires.take().unwrap();
    assert!(wires.abolish());
    assert!(!wires.abolish());
    // One of which the opening had begun.
    wires.add(wire());
    taken.give_back();
    assert_eq!((wires.free(), wires.pool().there), (0, 0));
    for mut other in others {
        assert!(other.read_u8().await.is_err(), "it is open");
    }
}
