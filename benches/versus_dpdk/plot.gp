# Draws what versus_dpdk measured in its standard setup. gnuplot -e "csv='figures.csv'; svg='figures.svg'" plot.gp
set datafile separator ","
set terminal svg size 1300,1000 dynamic background "white" font "sans,11"
set output svg
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.85 border -1
set boxwidth 0.9
set xtics rotate by -35 font ",9"
set grid ytics
set key top right
set yrange [0:*]
set multiplot layout 3,2 title system(sprintf("sed -n 's/^# \\(date\\|cpu\\|dpdk\\|commit\\): //p' '%s' | paste -sd ',' | sed 's/,/, /g'", csv))

# The columns of the figures: stage 1, direction 2, regime 3, path 4, burst 5, size 6, ring 7, queues 8, a 11, b 14.
rows(stage, direction, regime) = sprintf("< awk -F, '$1==\"%s\" && $2==\"%s\" && $3==\"%s\" && $5==32 && $6==64 && $7==256 && $8==1' '%s'", stage, direction, regime, csv)
count(stage, direction, regime) = int(system(rows(stage, direction, regime)[3:*]." | wc -l"))
name(letter) = system(sprintf("sed -n 's/^# %s: //p' '%s' | sed 's/_/\\\\\\\\_/g'", letter, csv))

do for [panel in "cpu,rx, cpu,tx, instructions,rx, instructions,tx, cross,forward,near cross,forward,far"] {
    stage = word(system("echo '".panel."' | tr ',' ' '"), 1)
    direction = word(system("echo '".panel."' | tr ',' ' '"), 2)
    regime = word(system("echo '".panel."' | tr ',' ' '"), 3)
    set title sprintf("%s, %s%s", direction, stage eq "cpu" ? "cycles per packet" : stage eq "cross" ? "Mpps, null device on the other core, " : "instructions per packet", regime)
    if (count(stage, direction, regime) > 0) {
        plot rows(stage, direction, regime) using 11:xtic(4) title name("a"), "" using 14 title name("b")
    } else {
        unset tics
        plot [0:1] [0:1] NaN title "not measured"
        set xtics rotate by -35 font ",9"
        set ytics
    }
}
unset multiplot
