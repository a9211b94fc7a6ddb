(left(SQLSTATE, 2) IN ('22', '23', 'P0', '45')
            OR SQLSTATE IN ('21000', '44000', '54000', '20000', '09000', '27000')
            OR (left(SQLSTATE, 1) BETWEEN '5' AND '9' OR left(SQLSTATE, 1) BETWEEN 'I' AND 'Z')
                AND left(SQLSTATE, 2) NOT IN ('53', '54', '55', '57', '58', '72', 'XX'))
