use super::*;

#[test]
#[ignore]
fn diag() {
    for (band, cap) in [0.4, 0.6, 0.75, 0.85].into_iter().enumerate() {
        for (k, scale) in super::lower::SCALES.into_iter().enumerate() {
            let mut got = [0; 4];
            let mut un = 0;
            let mut asked = 0.0;
            for run in 0..60 {
                let mut dice = Dice::new(77 + band as u64, run * 10 + k as u64);
                let mut case = Case::any(&mut dice, cap, false);
                (case.claim_bps, case.duration_ms) = scale;
                let j = case.judged();
                got[j.verdict as usize] += 1;
                un += j.narrow;
                asked += j.asked;
            }
            println!(
                "{cap} {scale:?} pass {} fail {} inc {} narrow/run {:.2} asked {:.3}",
                got[1],
                got[2],
                got[3],
                f64::from(un) / 60.0,
                asked / 60.0
            );
        }
    }
}

#[test]
#[ignore]
fn many_narrow() {
    // Beyond the threat model: up to half of honest ones behind a narrow access, f of others faulty or none.
    for share in [0.3, 0.5, 0.7, 0.9] {
        let (mut fails, mut pass) = (0, 0);
        for run in 0..600 {
            let mut dice = Dice::new(5, run);
            let mut case = Case::any(&mut dice, 1.0, false);
            let some = dice.below(usize::from(case.n) / 2) + 1;
            for one in case.ones.iter_mut().take(some) {
                one.access = share;
            }
            let j = case.judged();
            fails += u32::from(j.verdict == Verdict::Fail);
            pass += u32::from(j.verdict == Verdict::Pass);
        }
        println!("access {share}: fails {fails} pass {pass} of 600");
    }
}
